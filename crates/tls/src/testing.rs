//! Certificates for tests.

use rcgen::{CertificateParams, KeyPair};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A certificate and its key, as PEM.
pub struct Made {
    pub certificate: String,
    pub key: String,
}

/// One that vouches for itself.
pub fn made(name: &str) -> Made {
    let key = KeyPair::generate().expect("a key");
    let certificate =
        CertificateParams::new([name.to_owned()]).expect("a name").self_signed(&key).expect("a signature");
    Made { certificate: certificate.pem(), key: key.serialize_pem() }
}

/// A directory that goes with the test.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pgherd-tls-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("write a file");
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What `openssl pkcs8 -topk8 -v2 aes-256-cbc` writes, under the password `hunter2`, and its certificate.
pub const ENCRYPTED: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhjLknAok7C1wICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEO+M9nyguS6E8KvOmKy4Ae4EgZCN
/50nq+tBDZy7cvmIdLq+mcVhvxZy+Vfe5AUGf8jpTIz/2LV/8L7W1g4a9NdIhN0E
BtlAKQIgFZfFI1vgST4578Mtut7ihOx7LKylpSeStbQxK/SkAnHLYP0G4Lqq3M+r
wP6hszASv6XdwhmWlEqUj+fEvBvezZe8dOh/VxdMsuENobZ4AYlDZrumLqQ7OyE=
-----END ENCRYPTED PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBeTCCAR+gAwIBAgIUQnPWbbXhTZxSRAEHbYVDUjZ4ovgwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGc2VhbGVkMCAXDTI2MTEyNjAzMTI1N1oYDzIxMjYxMTAyMDMx
MjU3WjARMQ8wDQYDVQQDDAZzZWFsZWQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AAQWz5bq6JBQVgQ71zeVCuADhEGG54TltDjAqFoXOcBYXnLpx3o8BRB/LT1r6CCr
GO31E/OFsYBNdhX2CAWVlvNUo1MwUTAdBgNVHQ4EFgQUlzrkVfrWvJ5yYI6Wed+Z
TaJedekwHwYDVR0jBBgwFoAUlzrkVfrWvJ5yYI6Wed+ZTaJedekwDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiB/aKe0mbPn0oeeiaJTjTmpXzmDv5LR
gMybwNPCvI8n3QIhAKlY+pJwncupQO56s0JwM49+spdbKffQ3qP82IoMnRAX
-----END CERTIFICATE-----
";

/// OpenSSL's old form.
pub const TRADITIONAL: &str = "\
-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,860295415F12E0AAA3FECFC723B5D852

smfexRRhUyzQ3evUjwCy37eBt4CbnoWRHIshu68yTt8IVzzB2I0TKetW1OinZPAR
-----END EC PRIVATE KEY-----
";
