#include "tests/cluster/certificates.h"

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
  lab::Argv argv = NewCertificate(files, subject, days);
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
  return files;
}

void MakeKey(const std::string& path) {
  OpenSsl({"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path});
  OpenSsl({"pkey", "-in", path, "-pubout", "-out", path + ".pub"});
}

}  // namespace waggle::cluster
