#include "loader/tc_exchange.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "maps/grace.h"
#include "maps/kernel_map_store.h"
#include "maps/pins.h"
#include "userspace/os/errno_status.h"

namespace waggle::loader {
namespace {

constexpr uint32_t kMaxPrograms = 8;
constexpr char kProgramsMap[] = "waggle_programs";
constexpr char kPin[] = "exchange_";  // and the map's id
// What the link's stand-in leaves in __sk_buff.cb[0]; it stores something for every packet, so
// that nothing from elsewhere is taken for it.
constexpr int32_t kDone = 0x57a661e;
constexpr int16_t kMark = offsetof(__sk_buff, cb);
constexpr int kUnspec = -1;  // TC_ACT_UNSPEC: the next program decides

bpf_insn Instruction(uint8_t code, uint8_t dst, uint8_t src, int16_t offset, int32_t immediate) {
  bpf_insn instruction{};
  instruction.code = code;
  instruction.dst_reg = dst & 0xf;
  instruction.src_reg = src & 0xf;
  instruction.off = offset;
  instruction.imm = immediate;
  return instruction;
}

bpf_insn Set(uint8_t dst, int32_t value) {
  return Instruction(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, value);
}
bpf_insn Copy(uint8_t dst, uint8_t src) {
  return Instruction(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0);
}
bpf_insn Call(int32_t helper) {
  return Instruction(BPF_JMP | BPF_CALL, 0, 0, 0, helper);
}
bpf_insn LoadWord(uint8_t dst, uint8_t from, int16_t offset) {
  return Instruction(BPF_LDX | BPF_MEM | BPF_W, dst, from, offset, 0);
}
bpf_insn StoreWord(uint8_t to, int16_t offset, uint8_t src) {
  return Instruction(BPF_STX | BPF_MEM | BPF_W, to, src, offset, 0);
}
// Takes two places.
bpf_insn LoadMap(uint8_t dst, int fd) {
  return Instruction(BPF_LD | BPF_DW | BPF_IMM, dst, BPF_PSEUDO_MAP_FD, 0, fd);
}
bpf_insn SkipUnless(uint8_t reg, int32_t value, int16_t count) {
  return Instruction(BPF_JMP | BPF_JNE | BPF_K, reg, 0, count, value);
}
bpf_insn SkipIf(uint8_t reg, int32_t value, int16_t count) {
  return Instruction(BPF_JMP | BPF_JEQ | BPF_K, reg, 0, count, value);
}
constexpr bpf_insn kSecondPlace{};

absl::StatusOr<os::UniqueFd> Load(std::span<const bpf_insn> code) {
  os::UniqueFd program(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, kStandIn, "Dual BSD/GPL", code.data(),
                                     code.size(), nullptr));
  if (!program) return os::ErrnoStatus(errno, "load a stand-in to exchange tcx and clsact");
  return program;
}

absl::StatusOr<os::UniqueFd> LoadLinkStandIn(int chosen, int programs, int index) {
  const bpf_insn code[] = {
      Copy(BPF_REG_6, BPF_REG_1),
      Set(BPF_REG_7, 0),  // the mark
      Instruction(BPF_ST | BPF_MEM | BPF_W, BPF_REG_10, 0, -4, 0),
      LoadMap(BPF_REG_1, chosen),
      kSecondPlace,
      Copy(BPF_REG_2, BPF_REG_10),
      Instruction(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_2, 0, 0, -4),
      Call(BPF_FUNC_map_lookup_elem),
      SkipIf(BPF_REG_0, 0, 3),
      LoadWord(BPF_REG_1, BPF_REG_0, 0),
      SkipUnless(BPF_REG_1, WAGGLE_TC_TCX, 1),
      Set(BPF_REG_7, kDone),
      StoreWord(BPF_REG_6, kMark, BPF_REG_7),
      SkipUnless(BPF_REG_7, kDone, 5),
      Copy(BPF_REG_1, BPF_REG_6),
      LoadMap(BPF_REG_2, programs),
      kSecondPlace,
      Set(BPF_REG_3, index),
      Call(BPF_FUNC_tail_call),
      Set(BPF_REG_0, kUnspec),
      Instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
  };
  return Load(code);
}

absl::StatusOr<os::UniqueFd> LoadFilterStandIn(int programs, int index) {
  const bpf_insn code[] = {
      LoadWord(BPF_REG_6, BPF_REG_1, kMark),
      SkipIf(BPF_REG_6, kDone, 4),
      LoadMap(BPF_REG_2, programs),
      kSecondPlace,
      Set(BPF_REG_3, index),
      Call(BPF_FUNC_tail_call),
      Set(BPF_REG_0, kUnspec),
      Instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
  };
  return Load(code);
}

absl::StatusOr<os::UniqueFd> MakeMap(bpf_map_type type, const char* name, uint32_t entries) {
  os::UniqueFd map(
      bpf_map_create(type, name, sizeof(uint32_t), sizeof(uint32_t), entries, nullptr));
  if (!map) return os::ErrnoStatus(errno, "make a map to exchange tcx and clsact");
  return map;
}

}  // namespace

absl::StatusOr<TcExchange> TcExchange::Open(const std::string& folder, waggle_tc_attach from) {
  TcExchange exchange;
  exchange.from_ = from;
  absl::StatusOr<os::UniqueFd> chosen = MakeMap(BPF_MAP_TYPE_ARRAY, "waggle_chosen", 1);
  if (!chosen.ok()) return chosen.status();
  exchange.chosen_ = *std::move(chosen);
  absl::StatusOr<os::UniqueFd> programs =
      MakeMap(BPF_MAP_TYPE_PROG_ARRAY, kProgramsMap, kMaxPrograms);
  if (!programs.ok()) return programs.status();
  exchange.programs_ = *std::move(programs);
  const absl::StatusOr<uint32_t> id = maps::MapId(exchange.programs_.get());
  if (!id.ok()) return id.status();
  const std::string pin = absl::StrCat(folder, "/", kPin, *id);
  if (bpf_obj_pin(exchange.programs_.get(), pin.c_str()) != 0) {
    return os::ErrnoStatus(errno, absl::StrCat("pin map at ", pin));
  }
  const uint32_t key = 0;
  const uint32_t value = from;
  absl::Status status = maps::PutElement(exchange.chosen_.get(), &key, &value, "waggle_chosen");
  if (!status.ok()) return status;
  return exchange;
}

absl::StatusOr<TcExchange::StandIns*> TcExchange::For(int program_fd) {
  const auto found = stand_ins_.find(program_fd);
  if (found != stand_ins_.end()) return &found->second;
  const auto index = static_cast<uint32_t>(stand_ins_.size());
  if (index >= kMaxPrograms) return absl::InternalError("more programs than places for them");
  const auto value = static_cast<uint32_t>(program_fd);
  absl::Status status = maps::PutElement(programs_.get(), &index, &value, kProgramsMap);
  if (!status.ok()) return status;
  absl::StatusOr<os::UniqueFd> link =
      LoadLinkStandIn(chosen_.get(), programs_.get(), static_cast<int>(index));
  if (!link.ok()) return link.status();
  absl::StatusOr<os::UniqueFd> filter = LoadFilterStandIn(programs_.get(), static_cast<int>(index));
  if (!filter.ok()) return filter.status();
  return &(stand_ins_[program_fd] = {*std::move(link), *std::move(filter)});
}

absl::StatusOr<int> TcExchange::Link(int program_fd) {
  const absl::StatusOr<StandIns*> stand_ins = For(program_fd);
  if (!stand_ins.ok()) return stand_ins.status();
  return (*stand_ins)->link.get();
}

absl::StatusOr<int> TcExchange::Filter(int program_fd) {
  const absl::StatusOr<StandIns*> stand_ins = For(program_fd);
  if (!stand_ins.ok()) return stand_ins.status();
  return (*stand_ins)->filter.get();
}

void TcExchange::Wait() const {
  maps::GracePeriod grace;
  grace.Wait(grace.Request());
}

absl::Status TcExchange::Flip() {
  const uint32_t key = 0;
  const uint32_t to = from_ == WAGGLE_TC_TCX ? WAGGLE_TC_CLSACT : WAGGLE_TC_TCX;
  absl::Status status = maps::PutElement(chosen_.get(), &key, &to, "waggle_chosen");
  if (!status.ok()) return status;
  Wait();
  return absl::OkStatus();
}

absl::Status RemoveExchangePins(const std::string& folder, std::vector<std::string>* removed) {
  std::error_code error;
  std::vector<std::string> pins;
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end;
       at.increment(error)) {
    if (at->path().filename().string().starts_with(kPin)) pins.push_back(at->path().string());
  }
  for (const std::string& pin : pins) {
    const os::UniqueFd map(bpf_obj_get(pin.c_str()));
    bpf_map_info info{};
    uint32_t length = sizeof(info);
    if (!map || bpf_obj_get_info_by_fd(map.get(), &info, &length) != 0 ||
        info.type != BPF_MAP_TYPE_PROG_ARRAY || std::string_view(info.name) != kProgramsMap) {
      continue;
    }
    if (unlink(pin.c_str()) != 0) return os::ErrnoStatus(errno, absl::StrCat("remove ", pin));
    removed->push_back(pin);
  }
  return absl::OkStatus();
}

}  // namespace waggle::loader
