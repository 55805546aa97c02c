// Frames on devices, with what devices leave to each other: checksums that are finished later,
// super-packets. BPF_PROG_TEST_RUN knows neither.
#ifndef WAGGLE_TESTS_DATAPATH_PACKET_WIRE_H_
#define WAGGLE_TESTS_DATAPATH_PACKET_WIRE_H_

#include <functional>
#include <optional>
#include <string>

#include "tests/datapath/packet_builder.h"
#include "userspace/os/unique_fd.h"

namespace waggle::packet {

// What stands beside a frame.
struct Offload {
  bool partial = false;   // the layer-4 checksum is that of the pseudo header so far
  uint32_t gso_size = 0;  // payload of each segment; only with `partial`
  uint16_t csum_start = 0, csum_offset = 0;  // of what was received
};

struct Caught {
  Bytes frame;
  Offload offload;
};

// The frame with the checksum left unfinished.
Bytes Unfinished(Bytes frame);
// As a device finishes it.
Bytes Finished(const Caught& caught);

// One end of a device: an AF_PACKET socket, or a tun device. Sees what the device receives,
// not what it sends. What has no Ethernet header there has one of zeros here.
class Wire {
 public:
  // In the caller's network namespace.
  static Wire OnDevice(const std::string& device);
  // Makes a layer-3 device, up, without addresses.
  static Wire NewTun(const std::string& device);

  // For an unfinished frame the place of its checksum is taken from the frame.
  void Send(const Bytes& frame, const Offload& offload = {}) const;
  // The next frame that `wanted` likes; nothing after a few seconds.
  std::optional<Caught> Catch(const std::function<bool(const View&)>& wanted) const;
  // What came until now is forgotten.
  void Drain() const;

 private:
  Wire(os::UniqueFd fd, bool tun) : fd_(std::move(fd)), tun_(tun) {}
  std::optional<Caught> Next(int timeout_ms) const;

  os::UniqueFd fd_;
  bool tun_;
};

}  // namespace waggle::packet

#endif
