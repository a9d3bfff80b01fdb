//! OpenSSL's lists of cipher suites: `ECDHE-RSA-AES256-GCM-SHA384:HIGH:!aNULL`. What is named and what is excluded counts;
//! of the groups only those that hold what rustls has. Suites of TLS 1.3 are always there, as with OpenSSL.

use rustls::{CipherSuite, SupportedCipherSuite};

/// OpenSSL's name of each suite of TLS 1.2 that rustls has.
const NAMES: &[(&str, CipherSuite)] = &[
    ("ECDHE-ECDSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// Groups that every one of them is in.
const EVERY: &[&str] = &["ALL", "DEFAULT", "HIGH", "ECDHE", "EECDH", "KECDHE", "KEECDH", "TLSV1.2", "AEAD", "FIPS"];

/// Those of the provider's suites that the list allows. A list that leaves none of TLS 1.2 is an error: it would shut out
/// clients in a way that nobody expects.
pub fn chosen(list: &str, all: &[SupportedCipherSuite]) -> Result<Vec<SupportedCipherSuite>, String> {
    let words = || list.split([':', ',', ' ']).map(str::trim).filter(|word| !word.is_empty());
    let excluded = |name: &str| words().any(|word| word.strip_prefix(['!', '-']).is_some_and(|w| includes(w, name)));
    let included = |name: &str| words().any(|word| includes(word, name));
    let allowed = |suite: &SupportedCipherSuite| match NAMES.iter().find(|(_, id)| *id == suite.suite()) {
        Some((name, _)) => included(name) && !excluded(name),
        None => suite.tls13().is_some(),
    };
    let chosen: Vec<_> = all.iter().filter(|suite| allowed(suite)).copied().collect();
    if chosen.iter().all(|suite| suite.tls13().is_some()) {
        let known: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
        return Err(format!("ciphers allows none of those that are supported: {}", known.join(", ")));
    }
    Ok(chosen)
}

/// Is the suite of this name among what the word means? `ECDHE+AESGCM` is in both.
fn includes(word: &str, name: &str) -> bool {
    word.split('+').all(|part| {
        let part = part.to_ascii_uppercase();
        let has = |text: &str| name.contains(text);
        match part.as_str() {
            group if EVERY.contains(&group) => true,
            "AES" => has("AES"),
            "AESGCM" => has("GCM"),
            "AES128" => has("AES128"),
            "AES256" => has("AES256"),
            "CHACHA20" => has("CHACHA20"),
            "ECDSA" | "AECDSA" => has("ECDSA"),
            "RSA" | "ARSA" => has("ECDHE-RSA"),
            "SHA256" => has("SHA256"),
            "SHA384" => has("SHA384"),
            exact => exact == name,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &str) -> Result<Vec<&'static str>, String> {
        let chosen = chosen(list, &rustls::crypto::ring::default_provider().cipher_suites)?;
        let name =
            |suite: &SupportedCipherSuite| NAMES.iter().find(|(_, id)| *id == suite.suite()).map(|(name, _)| *name);
        assert_eq!(chosen.iter().filter(|suite| suite.tls13().is_some()).count(), 3, "TLS 1.3 stays");
        Ok(chosen.iter().filter_map(name).collect())
    }

    #[test]
    fn lists_as_openssl_reads_them() {
        assert_eq!(names("ECDHE-RSA-AES256-GCM-SHA384"), Ok(vec!["ECDHE-RSA-AES256-GCM-SHA384"]));
        assert_eq!(names("HIGH:!aNULL:!MD5").map(|all| all.len()), Ok(6));
        assert_eq!(names("ECDHE+AESGCM:!ECDSA").map(|all| all.len()), Ok(2));
        assert_eq!(names("AES128:CHACHA20:-RSA").map(|all| all.len()), Ok(2));
        assert!(names("RC4-MD5").unwrap_err().contains("ECDHE-RSA-AES128-GCM-SHA256"));
        assert!(names("HIGH:!ECDHE").is_err());
    }
}
