// waggle-lab-peer: the clients and servers of the lab in one small binary, run
// inside the namespaces and cgroups that the tests make.
#include <CLI/CLI.hpp>
#include <map>

#include "tests/lab/peer/clash.h"
#include "tests/lab/peer/flood.h"
#include "tests/lab/peer/load.h"
#include "tests/lab/peer/serve.h"
#include "tests/lab/peer/steps.h"
#include "tests/lab/peer/tunnel.h"

int main(int argc, char** argv) {
  using waggle::lab::AskMode;
  CLI::App app{"Clients and servers of Waggle's test lab"};
  app.require_subcommand(1);

  waggle::lab::ServeOptions serve;
  CLI::App* serve_command = app.add_subcommand("serve", "Answer with a name and the peer seen");
  serve_command->add_option("--name", serve.name, "Name in the answers")->required();
  serve_command->add_option("--listen", serve.listen, "PROTOCOL:ADDRESS:PORT, repeated")
      ->required();

  CLI::App* steps_command = app.add_subcommand("steps", "Do the socket calls named on stdin");

  int timeout_ms = 1000, interval_ms = 50;
  waggle::lab::RateOptions rate;
  const std::map<std::string, AskMode> modes = {{"tcp", AskMode::kTcp},
                                                {"udp", AskMode::kUdp},
                                                {"udp-new", AskMode::kUdpNew},
                                                {"udp-connected", AskMode::kUdpConnected},
                                                {"udp-held", AskMode::kUdpHeld}};
  CLI::App* rate_command = app.add_subcommand("rate", "Ask at a steady rate");
  rate_command->add_option("--mode", rate.mode)->transform(CLI::CheckedTransformer(modes));
  rate_command->add_option("--to", rate.to)->required();
  rate_command->add_option("--dns", rate.dns_name, "Ask a DNS server for this name");
  rate_command->add_option("--per-second", rate.per_second);
  rate_command->add_option("--count", rate.count);
  rate_command->add_option("--timeout-ms", timeout_ms);

  waggle::lab::HoldOptions hold;
  CLI::App* hold_command = app.add_subcommand("hold", "Keep connections open and in use");
  hold_command->add_option("--tcp", hold.tcp);
  hold_command->add_option("--udp", hold.udp);
  hold_command->add_option("--connections", hold.connections);
  hold_command->add_option("--interval-ms", interval_ms);
  hold_command->add_option("--timeout-ms", timeout_ms);

  waggle::lab::ClashOptions clash;
  CLI::App* clash_command =
      app.add_subcommand("clash", "Many connections from few source ports to several addresses");
  clash_command->add_flag("--udp", clash.udp);
  clash_command->add_option("--to", clash.to, "ADDRESS:PORT=NAME, repeated")->required();
  clash_command->add_option("--count", clash.count)->required();
  clash_command->add_option("--open", clash.open);
  clash_command->add_option("--first-port", clash.first_port);
  clash_command->add_option("--last-port", clash.last_port);
  clash_command->add_option("--timeout-ms", timeout_ms);

  waggle::lab::TunnelOptions tunnel;
  CLI::App* tunnel_command =
      app.add_subcommand("tunnel", "Carry the packets of a tun device to other nodes");
  tunnel_command->add_option("--device", tunnel.device)->required();
  tunnel_command->add_option("--local", tunnel.local)->required();
  tunnel_command->add_option("--to", tunnel.to, "PREFIX/LENGTH=ADDRESS:PORT, repeated")->required();

  waggle::lab::FloodOptions flood;
  CLI::App* flood_command =
      app.add_subcommand("flood", "Packets of many clients that never were, as fast as possible");
  flood_command->add_flag("--udp", flood.udp);
  flood_command->add_option("--flags", flood.flags)->check(CLI::IsMember({"syn", "ack", "rst"}));
  flood_command->add_option("--to", flood.to)->required();
  flood_command->add_option("--from", flood.from, "The first source address")->required();
  flood_command->add_option("--first-port", flood.first_port);
  flood_command->add_option("--last-port", flood.last_port);
  flood_command->add_option("--count", flood.count)->required();

  CLI11_PARSE(app, argc, argv);
  rate.timeout = hold.timeout = clash.timeout = std::chrono::milliseconds(timeout_ms);
  hold.interval = std::chrono::milliseconds(interval_ms);
  if (*serve_command) return waggle::lab::Serve(serve);
  if (*steps_command) return waggle::lab::RunSteps();
  if (*rate_command) return waggle::lab::Rate(rate);
  if (*hold_command) return waggle::lab::Hold(hold);
  if (*clash_command) return waggle::lab::Clash(clash);
  if (*tunnel_command) return waggle::lab::Tunnel(tunnel);
  if (*flood_command) return waggle::lab::Flood(flood);
  return 2;
}
