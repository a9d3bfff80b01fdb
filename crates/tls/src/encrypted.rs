//! Private keys under a password: PKCS#8 with PBES2, which is what `openssl` writes since its version 1.0.

use crate::identity::Password;
use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
/// OpenSSL's own old form; its key derivation is one round of MD5.
const TRADITIONAL: &str = "Proc-Type: 4,ENCRYPTED";

const TO_PKCS8: &str = "`openssl pkcs8 -topk8 -v2 aes-256-cbc -in KEY -out NEW` writes a form that can be read";

/// Is there such a key in this text?
pub fn is_in(text: &str) -> bool {
    text.contains(BEGIN) || text.contains(TRADITIONAL)
}

/// The key, or what is wrong.
pub fn decrypt(text: &str, password: Option<&Password>) -> Result<PrivateKeyDer<'static>, String> {
    if !text.contains(BEGIN) {
        return Err(format!("the key is encrypted in OpenSSL's old form, which is not supported; {TO_PKCS8}"));
    }
    let Some(password) = password else {
        return Err("the key is encrypted and no password is given; name it, or use a key without one".to_owned());
    };
    let broken = || "the encrypted key is not valid PEM".to_owned();
    let from = text.find(BEGIN).ok_or_else(broken)?;
    let length = text[from..].find(END).ok_or_else(broken)? + END.len();
    let (_, document) = SecretDocument::from_pem(&text[from..from + length]).map_err(|_| broken())?;
    let sealed = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())
        .map_err(|_| format!("the key is encrypted in a way that is not supported; {TO_PKCS8}"))?;
    let key = sealed
        .decrypt(password.expose())
        .map_err(|_| "the key cannot be decrypted; is the password the right one?".to_owned())?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}
