//! A time stamp authority (RFC 3161) of OpenSSL, without a server.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::registry::run;

/// A time stamp authority: its directory has `tsa.cnf`, and `ca.pem` is its root.
pub fn authority(directory: &Path) {
    let at = |name: &str| directory.join(name).display().to_string();
    let config = format!(
        "[tsa]\ndefault_tsa = it\n[it]\nserial = {}\ncrypto_device = builtin\nsigner_cert = {}\nsigner_key = {}\n\
         certs = {}\nsigner_digest = sha256\ndefault_policy = 1.2.3.4.1\ndigests = sha256, sha384, sha512\n\
         ess_cert_id_alg = sha256\n[leaf]\nbasicConstraints = critical, CA:FALSE\n\
         keyUsage = critical, digitalSignature\n\
         extendedKeyUsage = critical, timeStamping\n",
        at("serial"),
        at("tsa.pem"),
        at("tsa.key"),
        at("ca.pem"),
    );
    std::fs::write(at("tsa.cnf"), config).unwrap();
    std::fs::write(at("serial"), "01\n").unwrap();
    let openssl = |arguments: &[&str]| run(Command::new("openssl").args(arguments).current_dir(directory));
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let root = ["req", "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=made up root", "-days", "30"];
    openssl(&[&root[..], &curve].concat());
    let request = ["req", "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=made up authority"];
    openssl(&[&request[..], &curve].concat());
    let sign =
        ["x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30"];
    openssl(&[&sign[..], &["-extfile", "tsa.cnf", "-extensions", "leaf", "-out", "tsa.pem"]].concat());
}

/// The answer of the authority in `directory` to each request in `requests`.
pub fn answers(directory: &Path, requests: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(requests).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let answer = |request: &PathBuf| {
        let answer = request.with_extension("tsr");
        let mut reply = Command::new("openssl");
        reply.args(["ts", "-reply", "-config", "tsa.cnf"]).current_dir(directory);
        run(reply.arg("-queryfile").arg(request).arg("-out").arg(&answer));
        answer.display().to_string()
    };
    names.iter().map(answer).collect()
}
