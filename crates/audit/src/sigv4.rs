//! AWS Signature Version 4, in the Authorization header, as S3 wants it: "Authenticating Requests: Using the
//! Authorization Header" in the API reference of Amazon S3.

use jiff::Timestamp;
use ring::hmac::{HMAC_SHA256, Key, sign};

use crate::tree::hash;

/// Whose signature it is, and for where.
pub(crate) struct Signer<'a> {
    pub(crate) access_key: &'a str,
    pub(crate) secret_key: &'a str,
    pub(crate) region: &'a str,
}

/// A request without a query.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    /// As it is sent: encoded.
    pub(crate) path: &'a str,
    /// All headers that are signed, with names in lower case: `host` and those of Amazon at least.
    pub(crate) headers: &'a [(&'a str, String)],
    /// SHA-256 of the body in hexadecimal digits, the same as in `x-amz-content-sha256`.
    pub(crate) body: &'a str,
}

impl Signer<'_> {
    /// The value of the header `Authorization`.
    pub(crate) fn authorization(&self, request: &Request<'_>, at: Timestamp) -> String {
        let (time, day) = (amz_date(at), at.strftime("%Y%m%d").to_string());
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let mut headers: Vec<_> = request.headers.iter().collect();
        headers.sort();
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let canonical = format!("{}\n{}\n\n{lines}\n{names}\n{}", request.method, request.path, request.body);
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&hash(&[canonical.as_bytes()])));
        let first = format!("AWS4{}", self.secret_key).into_bytes();
        let key = [&day, self.region, "s3", "aws4_request"].into_iter().fold(first, |key, part| mac(&key, part));
        let signature = hex(&mac(&key, &text));
        format!("AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}", self.access_key)
    }
}

/// The value of the header `x-amz-date`.
pub(crate) fn amz_date(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// `path` with everything encoded but letters, digits, `-._~` and slashes.
pub(crate) fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// `bytes` in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    sign(&Key::new(HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn authorization(method: &str, path: &str, body: &str, headers: &[(&str, &str)]) -> String {
        let signer = Signer {
            access_key: "AKIAIOSFODNN7EXAMPLE",
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            region: "us-east-1",
        };
        let at: Timestamp = "2013-05-24T00:00:00Z".parse().unwrap();
        let mut all = vec![
            ("host", "examplebucket.s3.amazonaws.com".to_string()),
            ("x-amz-content-sha256", body.to_string()),
            ("x-amz-date", amz_date(at)),
        ];
        all.extend(headers.iter().map(|(name, value)| (*name, value.to_string())));
        signer.authorization(&Request { method, path, headers: &all, body }, at)
    }

    /// The examples of the page that the header of this file names.
    #[test]
    fn signatures_are_those_of_the_examples() {
        let get = authorization("GET", "/test.txt", EMPTY, &[("range", "bytes=0-9")]);
        assert_eq!(
            get,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        let body = hex(&hash(&[b"Welcome to Amazon S3."]));
        let headers = [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
        let put = authorization("PUT", &encode("/test$file.text"), &body, &headers);
        assert!(put.ends_with("=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"), "{put}");
    }

    #[test]
    fn paths_are_encoded() {
        assert_eq!(encode("/a b/ü+~"), "/a%20b/%C3%BC%2B~");
    }
}
