#include "k8s-watch/decode_kinds.h"

namespace waggle::k8s {

namespace {

constexpr std::string_view kToBeDeleted = "ToBeDeletedByClusterAutoscaler";

// What says that the node is about to leave the cluster.
void DecodeFarewell(const Value& object, Node* node, Reporter* report) {
  const Path root;
  const auto deleted =
      ReadString(*object.Find("metadata"), Path(root, "metadata"), "deletionTimestamp",
                 "the node counts as one that is not being deleted", report);
  node->deleting = !deleted.value.value_or("").empty();
  constexpr std::string_view kNoTaints = "the node counts as one without taints";
  const auto spec = ReadObject(object, root, "spec", kNoTaints, report);
  if (!spec.value) return;
  const Path spec_path(root, "spec");
  const auto taints = ReadList(**spec.value, spec_path, "taints", kNoTaints, report);
  if (!taints.value) return;
  const Path list_path(spec_path, "taints");
  for (size_t i = 0; const Value& taint : **taints.value) {
    const Path path(list_path, i++);
    if (!taint.is_mapping()) {
      report->Invalid(
          path, "is " + Describe(taint) + ", expected a mapping with key; this taint is left out");
      continue;
    }
    const auto key = ReadString(taint, path, "key", "this taint is left out", report);
    if (key.value == kToBeDeleted) node->to_be_deleted = true;
  }
}

}  // namespace

std::optional<Node> DecodeNode(const Value& object, const ObjectName& name, Reporter* report) {
  Node node;
  node.name = name;
  const Path root;
  const Path metadata(root, "metadata");
  constexpr std::string_view kNoZone = "the node counts as one without zone";
  const auto labels = ReadObject(*object.Find("metadata"), metadata, "labels", kNoZone, report);
  if (labels.value) {
    node.zone = ReadString(**labels.value, Path(metadata, "labels"), "topology.kubernetes.io/zone",
                           kNoZone, report)
                    .value.value_or("");
  }
  const HarmlessFields harmless(report);
  DecodeFarewell(object, &node, report);
  constexpr std::string_view kNoAddresses = "the node counts as one without addresses";
  const auto status = ReadObject(object, root, "status", kNoAddresses, report);
  if (!status.value) return node;
  const Path status_path(root, "status");
  const auto addresses = ReadList(**status.value, status_path, "addresses", kNoAddresses, report);
  if (!addresses.value) return node;
  const Path list_path(status_path, "addresses");
  for (size_t i = 0; const Value& entry : **addresses.value) {
    const Path path(list_path, i++);
    constexpr std::string_view kThen = "this address is left out";
    if (!entry.is_mapping()) {
      report->Invalid(path, "is " + Describe(entry) +
                                ", expected a mapping with type and address; "
                                "this address is left out");
      continue;
    }
    const auto type = ReadString(entry, path, "type", kThen, report);
    if (!type.value || (*type.value != "InternalIP" && *type.value != "ExternalIP")) continue;
    const Value* text = Member(entry, "address");
    const Value missing = Value::Null();
    const auto address =
        ToAddress(text == nullptr ? missing : *text, Path(path, "address"), kThen, report);
    if (!address) continue;
    (*type.value == "InternalIP" ? node.internal_ips : node.external_ips).push_back(*address);
  }
  return node;
}

}  // namespace waggle::k8s
