//! Why a request to etcd brought no result, and what a person may do about it.

use super::etcd_error::EtcdError;
use awc::error::{ConnectError, SendRequestError};
use pgherd_types::Refused;
use std::io::ErrorKind;

#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody answered.
    NoAnswer {
        /// What was tried.
        why: String,
        /// Some endpoint may have received the request and may carry it out.
        maybe_done: bool,
    },
    /// etcd refuses.
    Explicit(EtcdError),
}

impl Failure {
    pub fn unsure(why: impl Into<String>) -> Self {
        Self::NoAnswer { why: why.into(), maybe_done: true }
    }
    pub fn unsent(why: impl Into<String>) -> Self {
        Self::NoAnswer { why: why.into(), maybe_done: false }
    }
    /// As the final word on a request.
    pub fn refused(self) -> Refused {
        match self {
            Self::NoAnswer { why, .. } => Refused::Unreachable(why),
            Self::Explicit(e) if e.lease_gone() => Refused::LeaseGone,
            Self::Explicit(e) => Refused::Denied(with_advice(e.message)),
        }
    }
}

/// Only a connection that was never made proves that the request was not delivered.
pub(crate) fn of_sending(url: &str, error: &SendRequestError) -> Failure {
    // what went wrong in a handshake is often only in the error's own form
    let why = advised(format!("{url}: {error}"), advice(&format!("{error} {error:?}")));
    let unmade = match error {
        SendRequestError::Url(_) => true,
        SendRequestError::Connect(ConnectError::Io(e)) => matches!(
            e.kind(),
            ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
        ),
        SendRequestError::Connect(
            ConnectError::Resolver(_) | ConnectError::NoRecords | ConnectError::Timeout | ConnectError::Unresolved,
        ) => true,
        _ => false,
    };
    if unmade { Failure::unsent(why) } else { Failure::unsure(why) }
}

/// The endpoint's own words for "I could not find out".
pub(crate) fn of_answer(url: &str, error: &EtcdError) -> Failure {
    let gateways = || (error.is_the_gateways() && url.starts_with("https:")).then_some(GATEWAYS_CERTIFICATE);
    Failure::unsure(advised(format!("{url}: {}", error.message), advice(&error.message).or_else(gateways)))
}

const GATEWAYS_CERTIFICATE: &str = "if this goes on, etcd runs with client-cert-auth and its own certificate lacks the \
    extended key usage clientAuth, by which its gateway logs in at itself: issue one with serverAuth and clientAuth";

/// Text that etcd, its gateway or the network says, and what to do.
const ADVICE: &[(&str, &str)] = &[
    (
        "database space exceeded",
        "etcd is out of space: leases go on, but nobody can take the leader key; compact and defragment etcd, then disarm \
         its alarm (etcdctl compact, defrag, alarm disarm)",
    ),
    (
        "alarm:NOSPACE",
        "compact and defragment etcd, then disarm its alarm (etcdctl compact, defrag, alarm disarm); until then nothing can be \
         written, and nobody can take the leader key",
    ),
    ("user name is empty", "etcd's authentication is on: set etcd3.username and etcd3.password"),
    (
        "etcdserver: permission denied",
        "give the user's role read and write permission on the whole prefix of the cluster's keys \
         (etcdctl role grant-permission --prefix)",
    ),
    (
        "BadCertificate",
        "etcd does not accept our certificate: set etcd3.cert and etcd3.key to one that its trusted-ca-file has signed",
    ),
    ("CertificateRequired", "etcd wants a certificate of its clients: set etcd3.cert and etcd3.key"),
    (
        "UnknownIssuer",
        "etcd's certificate is not signed by an authority that is trusted: set etcd3.cacert to the file of its authority",
    ),
    (
        "NotValidForName",
        "etcd's certificate does not name this host: use a name or address that it has, or issue one with it",
    ),
    ("InvalidContentType", "it does not speak TLS: is it http instead of https?"),
    (
        "CommonName of client",
        "etcd's authentication does not work with a client certificate that has a CommonName, through the gateway: issue one \
         without (subject /O=...), and keep username and password",
    ),
];

/// The text with what to do about it, where that is known.
pub(crate) fn with_advice(text: String) -> String {
    let advice = advice(&text);
    advised(text, advice)
}

fn advised(text: String, advice: Option<&str>) -> String {
    match advice {
        Some(advice) => format!("{text} ({advice})"),
        None => text,
    }
}

fn advice(text: &str) -> Option<&'static str> {
    ADVICE.iter().find(|(part, _)| text.contains(part)).map(|(_, advice)| *advice)
}
