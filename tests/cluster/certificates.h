// A certificate authority for one run, and what it signs: keys and certificates as PEM
// files, by the program openssl.
#ifndef WAGGLE_TESTS_CLUSTER_CERTIFICATES_H_
#define WAGGLE_TESTS_CLUSTER_CERTIFICATES_H_

#include <string>
#include <vector>

namespace waggle::cluster {

// Paths of files.
struct Certificate {
  std::string cert;
  std::string key;
};

class Authority {
 public:
  // Makes the authority's own files in this folder, which must exist.
  explicit Authority(std::string folder, const std::string& common_name = "waggle-test-ca");

  // Signs for a server with these subjectAltNames ("DNS:localhost", "IP:10.96.0.1") or,
  // without any, for a client. `name` names the files; an older certificate of that name
  // is replaced. `subject` as openssl takes it: "/O=system:masters/CN=admin". With days < 0 it
  // has expired.
  Certificate Issue(const std::string& name, const std::string& subject,
                    const std::vector<std::string>& alt_names = {}, int days = 2) const;

  // The authority's certificate, for those who shall trust it.
  const std::string& cert() const { return own_.cert; }

 private:
  std::string folder_;
  Certificate own_;
};

// A key without a certificate, as the apiserver signs service account tokens with: the
// private one at `path`, the public one at `path`.pub.
void MakeKey(const std::string& path);

}  // namespace waggle::cluster

#endif
