#include "tests/cluster/certificates.h"

#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/lab/lab.h"

namespace waggle::cluster {
namespace {

void OpenSsl(const lab::Argv& arguments) {
  lab::Argv argv = {"openssl"};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  lab::RunResult result = lab::RunProgram({}, argv);
  if (!result.ok()) lab::Fail(absl::StrCat(absl::StrJoin(argv, " "), "\n", result.ToString()));
}

lab::Argv NewCertificate(const Certificate& files, const std::string& subject, int days) {
  // Elliptic curves: a key is there at once.
  return {
      "req",     "-x509",   "-newkey", "ec",       "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
      "-keyout", files.key, "-out",    files.cert, "-days",    std::to_string(days),      "-subj",
      subject};
}

template <typename T, auto Free>
struct Deleter {
  void operator()(T* value) const { Free(value); }
};
using File = std::unique_ptr<FILE, Deleter<FILE, fclose>>;

// The program openssl makes no certificate whose time is over: from a day before its end.
void Redate(const Certificate& files, const std::string& signing_key, int days) {
  constexpr long kDay = 86'400;
  const File in(std::fopen(files.cert.c_str(), "re"));
  const std::unique_ptr<X509, Deleter<X509, X509_free>> certificate(
      in == nullptr ? nullptr : PEM_read_X509(in.get(), nullptr, nullptr, nullptr));
  const File key_file(std::fopen(signing_key.c_str(), "re"));
  const std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY, EVP_PKEY_free>> key(
      key_file == nullptr ? nullptr
                          : PEM_read_PrivateKey(key_file.get(), nullptr, nullptr, nullptr));
  if (certificate == nullptr || key == nullptr) lab::Fail("cannot read again " + files.cert);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), (days - 1) * kDay);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), days * kDay);
  const File out(std::fopen(files.cert.c_str(), "we"));
  if (X509_sign(certificate.get(), key.get(), EVP_sha256()) == 0 || out == nullptr ||
      PEM_write_X509(out.get(), certificate.get()) != 1) {
    lab::Fail("cannot sign again " + files.cert);
  }
}

}  // namespace

Authority::Authority(std::string folder, const std::string& common_name)
    : folder_(std::move(folder)), own_{folder_ + "/ca.crt", folder_ + "/ca.key"} {
  lab::Argv argv = NewCertificate(own_, "/CN=" + common_name, 2);
  // basicConstraints CA:TRUE is openssl's own default here.
  argv.insert(argv.end(), {"-addext", "keyUsage=critical,keyCertSign,cRLSign"});
  OpenSsl(argv);
}

Certificate Authority::Issue(const std::string& name, const std::string& subject,
                             const std::vector<std::string>& alt_names, int days) const {
  Certificate files{absl::StrCat(folder_, "/", name, ".crt"),
                    absl::StrCat(folder_, "/", name, ".key")};
  lab::Argv argv = NewCertificate(files, subject, std::max(days, 1));
  argv.insert(
      argv.end(),
      {"-CA", own_.cert, "-CAkey", own_.key, "-addext", "basicConstraints=critical,CA:FALSE",
       "-addext", "keyUsage=critical,digitalSignature", "-addext",
       absl::StrCat("extendedKeyUsage=", alt_names.empty() ? "clientAuth" : "serverAuth")});
  if (!alt_names.empty()) {
    argv.insert(argv.end(),
                {"-addext", absl::StrCat("subjectAltName=", absl::StrJoin(alt_names, ","))});
  }
  OpenSsl(argv);
  if (days < 0) Redate(files, own_.key, days);
  return files;
}

void MakeKey(const std::string& path) {
  OpenSsl({"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path});
  OpenSsl({"pkey", "-in", path, "-pubout", "-out", path + ".pub"});
}

}  // namespace waggle::cluster
