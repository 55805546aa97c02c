#include "k8s-watch/client_config.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace waggle::k8s {
namespace {

const std::string kPem = "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n";
const std::string kAccount = "/var/run/secrets/kubernetes.io/serviceaccount/";

// Files and environment that exist only here.
struct World {
  std::map<std::string, std::string> files;
  std::map<std::string, std::string> environment;

  ClientSurroundings Surroundings() const {
    return {[this](const std::string& path) -> absl::StatusOr<std::string> {
              const auto found = files.find(path);
              if (found == files.end()) return absl::NotFoundError("cannot be opened");
              return found->second;
            },
            [this](const std::string& name) -> std::optional<std::string> {
              const auto found = environment.find(name);
              if (found == environment.end()) return std::nullopt;
              return found->second;
            }};
  }
};

std::string Show(const Credential& credential) {
  return credential.path.empty() ? credential.data.substr(0, credential.data.find('\n'))
                                 : "<" + credential.path + ">";
}

// The configuration in one line, or the error.
std::string Show(const absl::StatusOr<ClientConfig>& config) {
  if (!config.ok()) return std::string(config.status().message());
  std::string text = absl::StrJoin(
      config->endpoints, " ", [](std::string* out, const auto& each) { *out += each.ToString(); });
  const auto add = [&text](const char* name, const std::string& value) {
    if (!value.empty()) absl::StrAppend(&text, " ", name, "=", value);
  };
  add("name", config->tls_server_name);
  add("ca", Show(config->ca));
  add("cert", Show(config->client_certificate));
  add("key", Show(config->client_key));
  add("token", Show(config->token));
  if (config->service_address) text += " service-address";
  return text;
}

// A kubeconfig with these members (flow style) in its cluster and its user.
std::string Config(const std::string& cluster, const std::string& user) {
  return absl::StrCat(
      "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
      "contexts:\n- {name: other, context: {cluster: x, user: y}}\n"
      "- {name: c, context: {cluster: k, user: u}}\n"
      "clusters:\n- {name: k, cluster: {",
      cluster, "}}\nusers:\n- {name: u, user: {", user, "}}\n");
}

struct Case {
  const char* name;
  ClientFlags flags;
  World world;
  std::string expected;
};
void PrintTo(const Case& test, std::ostream* out) {
  *out << test.name;
}

class ClientConfigTable : public testing::TestWithParam<Case> {};

TEST_P(ClientConfigTable, IsReadAs) {
  EXPECT_EQ(Show(ResolveClientConfig(GetParam().flags, GetParam().world.Surroundings())),
            GetParam().expected);
}

std::string CaseName(const testing::TestParamInfo<Case>& test) {
  return test.param.name;
}

const std::string kPemData = absl::Base64Escape(kPem);

// One kubeconfig, /etc/k/conf, beside the files that it names.
Case One(const char* name, const std::string& text, const std::string& expected) {
  return {name,
          {"/etc/k/conf", "", {}},
          {{{"/etc/k/conf", text},
            {"/etc/k/ca.crt", kPem},
            {"/pki/c.pem", kPem},
            {"/pki/k.pem", kPem},
            {"/etc/k/tok", " abc.def \n"},
            {"/etc/k/empty", "\n"},
            {"/etc/k/spaced", "a b"},
            {"/etc/k/noise", "no pem"}},
           {}},
          expected};
}
Case Cluster(const char* name, const std::string& cluster, const std::string& expected) {
  return One(name, Config(cluster, ""), expected);
}
Case User(const char* name, const std::string& user, const std::string& expected) {
  return One(name, Config("server: \"https://a:1\"", user), expected);
}

const std::string kUrl = ", expected a URL like https://10.0.0.1:6443: ";

INSTANTIATE_TEST_SUITE_P(
    Clusters, ClientConfigTable,
    testing::Values(
        Cluster("Server", "server: \"https://10.0.0.1:6443\"", "https://10.0.0.1:6443"),
        Cluster("V6", "server: \"https://[fd00::1]:6443\"", "https://[fd00::1]:6443"),
        Cluster("DefaultPort", "server: \"https://api.example\"", "https://api.example:443"),
        Cluster("Http", "server: \"HTTP://127.0.0.1:8001/\"", "http://127.0.0.1:8001"),
        Cluster("NoScheme", "server: \"10.0.0.1:6443\"", "https://10.0.0.1:6443"),
        Cluster("Prefix", "server: \"https://r.example/k8s/clusters/c-1/\"",
                "https://r.example:443/k8s/clusters/c-1"),
        Cluster("NoServer", "extensions: []",
                "/etc/k/conf: clusters[0].cluster.server: is missing"),
        Cluster("ServerOfAnotherType", "server: 5",
                "/etc/k/conf: clusters[0].cluster.server: is 5, expected a string"),
        Cluster("Query", "server: \"https://a:1/?x\"",
                "/etc/k/conf: clusters[0].cluster.server: is \"https://a:1/?x\"" + kUrl +
                    "it has a query or fragment"),
        Cluster("CaFile", "server: \"https://a:1\", certificate-authority: ca.crt",
                "https://a:1 ca=</etc/k/ca.crt>"),
        Cluster("CaData",
                "server: \"https://a:1\", certificate-authority: gone, "
                "certificate-authority-data: " +
                    kPemData,
                "https://a:1 ca=-----BEGIN CERTIFICATE-----"),
        Cluster("CaGone", "server: \"https://a:1\", certificate-authority: /gone",
                "/etc/k/conf: clusters[0].cluster.certificate-authority: the file \"/gone\" "
                "cannot be opened"),
        Cluster("CaNoPem", "server: \"https://a:1\", certificate-authority: noise",
                "/etc/k/conf: clusters[0].cluster.certificate-authority: holds no PEM"),
        Cluster("CaNoBase64", "server: \"https://a:1\", certificate-authority-data: \"?\"",
                "/etc/k/conf: clusters[0].cluster.certificate-authority-data: is not base64"),
        Cluster("TlsServerName", "server: \"https://a:1\", tls-server-name: kubernetes",
                "https://a:1 name=kubernetes"),
        Cluster("BadTlsServerName", "server: \"https://a:1\", tls-server-name: \"a b\"",
                "/etc/k/conf: clusters[0].cluster.tls-server-name: is \"a b\", expected a host "
                "name or an address"),
        Cluster("Proxy", "server: \"https://a:1\", proxy-url: \"http://p:3128\"",
                "/etc/k/conf: clusters[0].cluster.proxy-url: is \"http://p:3128\"; proxies are "
                "not supported, the node has to reach the apiserver itself"),
        Cluster("NotInsecure", "server: \"https://a:1\", insecure-skip-tls-verify: false",
                "https://a:1"),
        Cluster("Insecure", "server: \"https://a:1\", insecure-skip-tls-verify: true",
                "/etc/k/conf: clusters[0].cluster.insecure-skip-tls-verify: is set; the apiserver "
                "is always verified: name its certificate-authority, and tls-server-name where "
                "the certificate has another name"),
        Cluster("UnknownFieldsAreIgnored",
                "server: \"https://a:1\", extensions: [{name: x}], disable-compression: true",
                "https://a:1")),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    Users, ClientConfigTable,
    testing::Values(
        User("Token", "token: abc", "https://a:1 token=abc"),
        User("TokenFile", "tokenFile: tok", "https://a:1 token=</etc/k/tok>"),
        User("TokenFileWins", "token: abc, tokenFile: tok", "https://a:1 token=</etc/k/tok>"),
        User("TokenFileGone", "tokenFile: gone",
             "/etc/k/conf: users[0].user.tokenFile: the file \"/etc/k/gone\" cannot be opened"),
        User("TokenFileGoneAndAToken", "token: abc, tokenFile: gone", "https://a:1 token=abc"),
        User("ImpersonatesNobody", "token: abc, as-groups: [], as-user-extra: {}",
             "https://a:1 token=abc"),
        User("TokenFileEmpty", "tokenFile: empty",
             "/etc/k/conf: users[0].user.tokenFile: holds no token: it is empty"),
        User("TokenFileOfAnotherKind", "tokenFile: spaced",
             "/etc/k/conf: users[0].user.tokenFile: holds no token: there is space or a control "
             "character in it"),
        User("TokenThatWouldAddAHeader", "token: \"a\\r\\nX: y\"",
             "/etc/k/conf: users[0].user.token: holds no token: there is space or a control "
             "character in it"),
        User("Certificate", "client-certificate: /pki/c.pem, client-key: /pki/k.pem",
             "https://a:1 cert=</pki/c.pem> key=</pki/k.pem>"),
        User("CertificateData",
             "client-certificate-data: " + kPemData + ", client-key-data: " + kPemData,
             "https://a:1 cert=-----BEGIN CERTIFICATE----- key=-----BEGIN CERTIFICATE-----"),
        User("NoKey", "client-certificate: /pki/c.pem",
             "/etc/k/conf: users[0].user.client-key: is missing, but there is a "
             "client-certificate"),
        User("NoCertificate", "client-key: /pki/k.pem",
             "/etc/k/conf: users[0].user.client-certificate: is missing, but there is a "
             "client-key"),
        User("Exec", "exec: {command: aws}",
             "/etc/k/conf: users[0].user.exec: is set; credentials from programs (exec) are not "
             "supported; use a service account's token, tokenFile or a client certificate"),
        User("AuthProvider", "auth-provider: {name: oidc}",
             "/etc/k/conf: users[0].user.auth-provider: is set; auth providers are not "
             "supported; use a token, tokenFile or a client certificate"),
        User("Basic", "username: admin, password: x",
             "/etc/k/conf: users[0].user.username: is set; basic authentication is not "
             "supported, by apiservers neither"),
        User("Impersonation", "as: root",
             "/etc/k/conf: users[0].user.as: is set; impersonation is not supported"),
        User("EmptyMeansAbsent", "username: \"\", token: abc", "https://a:1 token=abc")),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    Texts, ClientConfigTable,
    testing::Values(
        One("Empty", "", "/etc/k/conf: current-context: is missing, so no cluster is chosen"),
        One("Yaml", "a: [",
            "/etc/k/conf: line 2, column 1: not YAML: end of sequence flow not "
            "found"),
        One("List", "[]", "/etc/k/conf: is a list, expected a kubeconfig"),
        One("TwoDocuments", "a: 1\n---\nb: 1\n",
            "/etc/k/conf: holds several documents, expected one kubeconfig"),
        One("Kind", "kind: Secret", "/etc/k/conf: kind: is \"Secret\", expected \"Config\""),
        One("Version", "apiVersion: v2", "/etc/k/conf: apiVersion: is \"v2\", expected \"v1\""),
        One("NoSuchContext", "current-context: c",
            "/etc/k/conf: current-context: is \"c\", but no entry of contexts has that name"),
        One("ContextsOfAnotherType", "current-context: c\ncontexts: {}",
            "/etc/k/conf: contexts: is a mapping, expected a list"),
        One("EmptyContext", "current-context: c\ncontexts: [5, {name: c}]",
            "/etc/k/conf: contexts[1].context: is missing or no mapping"),
        One("NoClusterNamed", "current-context: c\ncontexts: [{name: c, context: {user: u}}]",
            "/etc/k/conf: contexts[0].context.cluster: is missing"),
        One("NoSuchCluster", "current-context: c\ncontexts: [{name: c, context: {cluster: k}}]",
            "/etc/k/conf: contexts[0].context.cluster: is \"k\", but no entry of clusters has "
            "that name"),
        One("NoSuchUser",
            "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"
            "clusters: [{name: k, cluster: {server: a}}]",
            "/etc/k/conf: contexts[0].context.user: is \"u\", but no entry of users has that "
            "name"),
        One("NobodyInParticular",
            "current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\n"
            "clusters: [{name: k, cluster: {server: a}}]",
            "https://a:443"),
        One("Json",
            R"({"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "k"}}],
                "clusters": [{"name": "k", "cluster": {"server": "https://a:1"}}]})",
            "https://a:1")),
    CaseName);

Case Several(const char* name, const std::string& list, const std::string& expected) {
  return {name,
          {list, "", {}},
          {{{"/1/a",
             "current-context: c\nclusters: [{name: k, cluster: {server: a, "
             "certificate-authority: ca.crt}}]"},
            {"/1/ca.crt", kPem},
            {"/2/b",
             "current-context: other\ncontexts: [{name: c, context: {cluster: k, user: "
             "u}}]\nclusters: [{name: k, cluster: {server: b}}]\nusers: [{name: u, user: "
             "{token: t}}]"}},
           {}},
          expected};
}

INSTANTIATE_TEST_SUITE_P(
    SeveralFiles, ClientConfigTable,
    testing::Values(
        Several("FirstWins", "/1/a:/2/b", "https://a:443 ca=</1/ca.crt> token=t"),
        Several("MissingOnesAreSkipped", "/gone:/1/a::/2/b",
                "https://a:443 ca=</1/ca.crt> token=t"),
        Several("AllMissing", "/gone:/gone2", "--kubeconfig: the file \"/gone2\" cannot be opened"),
        Several("TheOnlyOneMissing", "/gone", "--kubeconfig: the file \"/gone\" cannot be opened"),
        Several("None", ":", "--kubeconfig: names no file")),
    CaseName);

const World kPod = {{{kAccount + "token", "pod-token\n"}, {kAccount + "ca.crt", kPem}},
                    {{"KUBERNETES_SERVICE_HOST", "10.96.0.1"}, {"KUBERNETES_SERVICE_PORT", "443"}}};
const World kPodV6 = {kPod.files,
                      {{"KUBERNETES_SERVICE_HOST", "fd00::1"}, {"KUBERNETES_SERVICE_PORT", "443"}}};
const std::string kPodCredentials = " ca=<" + kAccount + "ca.crt> token=<" + kAccount + "token>";
const World kKubeconfig = {
    {{"/conf", Config("server: \"https://a:1\", tls-server-name: nn", "token: t")}}, {}};

INSTANTIATE_TEST_SUITE_P(
    Flags, ClientConfigTable,
    testing::Values(
        Case{"InCluster", {}, kPod, "https://10.96.0.1:443" + kPodCredentials + " service-address"},
        Case{"InClusterV6",
             {},
             kPodV6,
             "https://[fd00::1]:443" + kPodCredentials + " service-address"},
        Case{"Nowhere",
             {},
             {},
             "no apiserver is named: give --kubeconfig FILE, or --apiserver URL, or --manifests "
             "PATH; or run in a pod (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not "
             "set)"},
        Case{"PodWithoutToken",
             {},
             {{}, kPod.environment},
             "the pod's service account: the file \"" + kAccount + "token\" cannot be opened"},
        Case{"PodWithoutCa",
             {},
             {{{kAccount + "token", "t"}}, kPod.environment},
             "the pod's service account: the file \"" + kAccount + "ca.crt\" cannot be opened"},
        Case{"OddPort",
             {},
             {kPod.files,
              {{"KUBERNETES_SERVICE_HOST", "10.96.0.1"}, {"KUBERNETES_SERVICE_PORT", "x"}}},
             "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT: is \"https://10.96.0.1:x\"" +
                 kUrl + "the port is no number from 1 to 65535"},
        Case{"ApiserversOfAPod",
             {"", "", {"https://10.0.0.1:6443", "10.0.0.2:6443", "https://10.0.0.1:6443"}},
             kPod,
             "https://10.0.0.1:6443 https://10.0.0.2:6443" + kPodCredentials},
        Case{"Master", {"/conf", "https://m:2", {}}, kKubeconfig, "https://m:2 token=t"},
        Case{"MasterFirst",
             {"/conf", "https://m:2", {"https://b:3"}},
             kKubeconfig,
             "https://m:2 https://b:3 token=t"},
        Case{"MasterAlone", {"", "http://127.0.0.1:8080", {}}, {}, "http://127.0.0.1:8080"},
        Case{"KubeconfigGoesBeforeThePod",
             {"/conf", "", {}},
             {kKubeconfig.files, kPod.environment},
             "https://a:1 name=nn token=t"},
        Case{"BadMaster",
             {"", "ftp://a", {}},
             {},
             "--master: is \"ftp://a\"" + kUrl + "the scheme is neither https nor http"},
        Case{"BadApiserver",
             {"", "", {"https://fd00::1"}},
             {},
             "--apiserver: is \"https://fd00::1\"" + kUrl + "an IPv6 address needs brackets"}),
    CaseName);

struct UrlCase {
  const char* url;
  const char* why;
};

TEST(ParseEndpoint, RefusesWhatIsNoUrl) {
  for (const UrlCase& test : {
           UrlCase{"", "there is no host name or address in it"},
           {"https://", "there is no host name or address in it"},
           {"https://:443", "there is no host name or address in it"},
           {"https://a b", "there is no host name or address in it"},
           {"https://a:0", "the port is no number from 1 to 65535"},
           {"https://a:65536", "the port is no number from 1 to 65535"},
           {"https://a:", "the port is no number from 1 to 65535"},
           {"https://a:1x", "the port is no number from 1 to 65535"},
           {"https://u:p@a", "it names a user"},
           {"https://[::1", "a bracket is not closed"},
           {"https://[::1]x", "text follows the address"},
           {"https://[a]:1", "what stands in brackets is no IPv6 address"},
           {"https://[1.2.3.4]:1", "what stands in brackets is no IPv6 address"},
           {"https://a/b c", "its path has characters that do not belong there"},
           {"https://a/\r\nHost: b", "its path has characters that do not belong there"},
           {"https://a#f", "it has a query or fragment"},
       }) {
    const auto endpoint = ParseEndpoint(test.url);
    ASSERT_FALSE(endpoint.ok()) << test.url;
    EXPECT_NE(std::string(endpoint.status().message()).find(test.why), std::string::npos)
        << endpoint.status();
  }
}

TEST(ReadToken, ReadsTheFileEachTime) {
  World world = kPod;
  const auto config = ResolveClientConfig({}, world.Surroundings());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(*ReadToken(config->token, world.Surroundings()), "pod-token");
  world.files[kAccount + "token"] = "renewed";
  EXPECT_EQ(*ReadToken(config->token, world.Surroundings()), "renewed");
}

}  // namespace
}  // namespace waggle::k8s
