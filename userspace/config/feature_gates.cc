#include "userspace/config/feature_gates.h"

#include <algorithm>
#include <array>

namespace waggle::config {
namespace {

// Each list in order of names, as kube-proxy v1.34.4 registers them.
constexpr std::array<std::string_view, 148> kFree = {
    "APIResponseCompression",
    "APIServerIdentity",
    "APIServingWithRoutine",
    "AggregatedDiscoveryRemoveBetaType",
    "AllAlpha",
    "AllBeta",
    "AllowDNSOnlyNodeCSR",
    "AllowInsecureKubeletCertificateSigningRequests",
    "AllowOverwriteTerminationGracePeriodSeconds",
    "AllowParsingUserUIDFromCertAuth",
    "AllowUnsafeMalformedObjectDeletion",
    "CBORServingAndStorage",
    "CPUManagerPolicyAlphaOptions",
    "CPUManagerPolicyBetaOptions",
    "CSIVolumeHealth",
    "ClearingNominatedNodeNameAfterBinding",
    "ClientsAllowCBOR",
    "ClientsPreferCBOR",
    "CloudControllerManagerWebhook",
    "ClusterTrustBundle",
    "ClusterTrustBundleProjection",
    "ComponentFlagz",
    "ComponentStatusz",
    "ConcurrentWatchObjectDecode",
    "ContainerCheckpoint",
    "ContainerRestartRules",
    "ContainerStopSignals",
    "ContextualLogging",
    "CoordinatedLeaderElection",
    "CrossNamespaceVolumeDataSource",
    "CustomCPUCFSQuotaPeriod",
    "DRAAdminAccess",
    "DRAConsumableCapacity",
    "DRADeviceBindingConditions",
    "DRADeviceTaints",
    "DRAExtendedResource",
    "DRAPartitionableDevices",
    "DRAPrioritizedList",
    "DRAResourceClaimDeviceStatus",
    "DRASchedulerFilterTimeout",
    "DeclarativeValidation",
    "DeclarativeValidationTakeover",
    "DeploymentReplicaSetTerminatingReplicas",
    "DetectCacheInconsistency",
    "DisableAllocatorDualWrite",
    "DisableCPUQuotaWithExclusiveCPUs",
    "DisableNodeKubeProxyVersion",
    "DynamicResourceAllocation",
    "EnvFiles",
    "EventedPLEG",
    "ExecProbeTimeout",
    "ExternalServiceAccountTokenSigner",
    "GitRepoVolumeDriver",
    "GracefulNodeShutdown",
    "GracefulNodeShutdownBasedOnPodPriority",
    "HPAConfigurableTolerance",
    "HPAScaleToZero",
    "HostnameOverride",
    "ImageMaximumGCAge",
    "ImageVolume",
    "InOrderInformers",
    "InPlacePodVerticalScaling",
    "InPlacePodVerticalScalingAllocatedStatus",
    "InPlacePodVerticalScalingExclusiveCPUs",
    "InPlacePodVerticalScalingExclusiveMemory",
    "InTreePluginPortworxUnregister",
    "InformerResourceVersion",
    "JobManagedBy",
    "KMSv1",
    "KubeletCrashLoopBackOffMax",
    "KubeletEnsureSecretPulledImages",
    "KubeletFineGrainedAuthz",
    "KubeletInUserNamespace",
    "KubeletPSI",
    "KubeletPodResourcesDynamicResources",
    "KubeletPodResourcesGet",
    "KubeletPodResourcesListUseActivePods",
    "KubeletRegistrationGetOnExistsOnly",
    "KubeletSeparateDiskGC",
    "KubeletServiceAccountTokenForCredentialProviders",
    "ListFromCacheSnapshot",
    "LocalStorageCapacityIsolationFSQuotaMonitoring",
    "LoggingAlphaOptions",
    "LoggingBetaOptions",
    "MatchLabelKeysInPodTopologySpread",
    "MatchLabelKeysInPodTopologySpreadSelectorMerge",
    "MaxUnavailableStatefulSet",
    "MemoryQoS",
    "MutableCSINodeAllocatableCount",
    "MutatingAdmissionPolicy",
    "NodeLogQuery",
    "NominatedNodeNameForExpectation",
    "OpenAPIEnums",
    "PodAndContainerStatsFromCRI",
    "PodCertificateRequest",
    "PodDeletionCost",
    "PodLevelResources",
    "PodLogsQuerySplitStreams",
    "PodObservedGenerationTracking",
    "PodReadyToStartContainersCondition",
    "PodTopologyLabelsAdmission",
    "PortForwardWebsockets",
    "PreferSameTrafficDistribution",
    "PreventStaticPodAPIReferences",
    "ProcMountType",
    "QOSReserved",
    "ReduceDefaultCrashLoopBackOffDecay",
    "RelaxedServiceNameValidation",
    "ReloadKubeletServerCertificateFile",
    "RemoteRequestHeaderUID",
    "ResourceHealthStatus",
    "RotateKubeletServerCertificate",
    "RuntimeClassInImageCriApi",
    "SELinuxChangePolicy",
    "SELinuxMount",
    "SELinuxMountReadWriteOncePod",
    "SchedulerAsyncAPICalls",
    "SchedulerAsyncPreemption",
    "SchedulerPopFromBackoffQ",
    "SeparateCacheWatchRPC",
    "ServiceAccountNodeAudienceRestriction",
    "SizeBasedListCostEstimate",
    "StatefulSetSemanticRevisionComparison",
    "StorageCapacityScoring",
    "StorageNamespaceIndex",
    "StorageVersionAPI",
    "StorageVersionHash",
    "StorageVersionMigrator",
    "StrictIPCIDRValidation",
    "StructuredAuthenticationConfigurationEgressSelector",
    "SupplementalGroupsPolicy",
    "SystemdWatchdog",
    "TokenRequestServiceAccountUIDValidation",
    "TopologyManagerPolicyAlphaOptions",
    "TopologyManagerPolicyBetaOptions",
    "TopologyManagerPolicyOptions",
    "TranslateStreamCloseWebsocketRequests",
    "UnauthenticatedHTTP2DOSMitigation",
    "UnknownVersionInteroperabilityProxy",
    "UserNamespacesPodSecurityStandards",
    "UserNamespacesSupport",
    "VolumeAttributesClass",
    "WatchCacheInitializationPostStartHook",
    "WatchList",
    "WatchListClient",
    "WindowsCPUAndMemoryAffinity",
    "WindowsGracefulNodeShutdown",
    "WindowsHostNetwork",
};

constexpr std::array<std::string_view, 58> kLockedOn = {
    "APIServerTracing",
    "AnonymousAuthConfigurableEndpoints",
    "AnyVolumeDataSource",
    "AuthorizeNodeWithSelectors",
    "AuthorizeWithSelectors",
    "BtreeWatchCache",
    "CPUManagerPolicyOptions",
    "CRDValidationRatcheting",
    "CSIMigrationPortworx",
    "ComponentSLIs",
    "ConsistentListFromCache",
    "CronJobsScheduledAnnotation",
    "CustomResourceFieldSelectors",
    "HonorPVReclaimPolicy",
    "JobBackoffLimitPerIndex",
    "JobPodReplacementPolicy",
    "JobSuccessPolicy",
    "KubeletCgroupDriverFromCRI",
    "KubeletTracing",
    "LoadBalancerIPMode",
    "LogarithmicScaleDown",
    "MatchLabelKeysInPodAffinity",
    "MemoryManager",
    "MultiCIDRServiceAllocator",
    "NFTablesProxyMode",
    "NodeInclusionPolicyInPodTopologySpread",
    "NodeSwap",
    "OrderedNamespaceDeletion",
    "PodIndexLabel",
    "PodLifecycleSleepAction",
    "PodLifecycleSleepActionAllowZero",
    "PodSchedulingReadiness",
    "ProbeHostPodSecurityStandards",
    "RecoverVolumeExpansionFailure",
    "RecursiveReadOnlyMounts",
    "RelaxedDNSSearchValidation",
    "RelaxedEnvironmentVariableValidation",
    "ResilientWatchCacheInitialization",
    "RetryGenerateName",
    "SchedulerQueueingHints",
    "SeparateTaintEvictionController",
    "ServiceAccountTokenJTI",
    "ServiceAccountTokenNodeBinding",
    "ServiceAccountTokenNodeBindingValidation",
    "ServiceAccountTokenPodNodeInfo",
    "ServiceTrafficDistribution",
    "SidecarContainers",
    "SizeMemoryBackedVolumes",
    "StatefulSetAutoDeletePVC",
    "StreamingCollectionEncodingToJSON",
    "StreamingCollectionEncodingToProtobuf",
    "StrictCostEnforcementForVAP",
    "StrictCostEnforcementForWebhooks",
    "StructuredAuthenticationConfiguration",
    "StructuredAuthorizationConfiguration",
    "TopologyAwareHints",
    "WinDSR",
    "WinOverlay",
};

constexpr std::array<std::string_view, 2> kLockedOff = {
    "AllowServiceLBStatusOnNonLB",
    "WatchFromStorageWithoutResourceVersion",
};

template <size_t N>
bool Has(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::binary_search(names.begin(), names.end(), name);
}

}  // namespace

Gate FindGate(std::string_view name) {
  if (Has(kFree, name)) return Gate::kFree;
  if (Has(kLockedOn, name)) return Gate::kLockedOn;
  return Has(kLockedOff, name) ? Gate::kLockedOff : Gate::kUnknown;
}

std::string GateFault(std::string_view name, bool value) {
  switch (FindGate(name)) {
    case Gate::kUnknown:
      return "is not a feature gate of kube-proxy 1.34";
    case Gate::kLockedOn:
      return value ? "" : "is false, but this feature cannot be switched off any more";
    case Gate::kLockedOff:
      return value ? "is true, but this feature cannot be switched on any more" : "";
    case Gate::kFree:
      break;
  }
  return "";
}

bool AlphaGateEnabled(const std::map<std::string, bool>& gates, const std::string& name) {
  for (const std::string& each : {name, std::string("AllAlpha")}) {
    const auto found = gates.find(each);
    if (found != gates.end()) return found->second;
  }
  return false;
}

}  // namespace waggle::config
