//! Every row of the access rules.

use super::*;
use crate::status::tests::cluster;

fn options(allowlist: &[&str], members: bool) -> AccessOptions {
    let allowlist = allowlist.iter().map(|item| (*item).to_owned()).collect();
    AccessOptions { allowlist, allowlist_include_members: members, ..AccessOptions::default() }
}

async fn allows(options: AccessOptions, from: &str, members: Members<'_>) -> bool {
    let answer = Access::with_names(options)
        .await
        .check(Caller { address: Some(from.parse().unwrap()), ..Caller::default() }, members)
        .await;
    assert!(matches!(answer, Ok(()) | Err(Denied::Address)), "{answer:?}");
    answer.is_ok()
}

#[actix_rt::test]
async fn addresses_are_compared_with_the_list() {
    let networks = ["10.1.2.3/8", "192.168.0.7", "2001:db8::/32", "::ffff:172.16.0.1", "localhost", "not/good"];
    for (from, allowed) in [
        ("10.200.0.1", true),
        ("::ffff:10.200.0.1", true),
        ("11.0.0.1", false),
        ("192.168.0.7", true),
        ("192.168.0.8", false),
        ("2001:db8:1::1", true),
        ("2001:db9::1", false),
        ("172.16.0.1", true),
        ("127.0.0.1", true),
        ("127.0.0.2", false),
    ] {
        assert_eq!(allows(options(&networks, false), from, Members::Ignore).await, allowed, "{from}");
    }
    assert!(allows(options(&[], false), "11.0.0.1", Members::Count(None)).await);
}

#[actix_rt::test]
async fn a_list_without_a_usable_item_lets_nobody_in() {
    for bad in [&["10.0.0.0/99"][..], &[""], &["a b", "/"]] {
        assert!(!allows(options(bad, false), "127.0.0.1", Members::Ignore).await, "{bad:?}");
    }
}

#[actix_rt::test]
async fn members_count_where_they_are_told_to() {
    let mut cluster = cluster();
    fn count(cluster: &Cluster) -> Members<'_> {
        Members::Count(Some(cluster))
    }
    assert!(allows(options(&[], true), "10.0.0.2", count(&cluster)).await);
    assert!(allows(options(&["10.9.9.9"], true), "10.0.0.2", count(&cluster)).await);
    assert!(!allows(options(&["10.9.9.9"], false), "10.0.0.2", count(&cluster)).await);
    assert!(!allows(options(&[], true), "10.0.0.3", count(&cluster)).await);
    assert!(!allows(options(&[], true), "10.0.0.2", Members::Count(None)).await, "nobody is known to be a member");
    assert!(allows(options(&[], true), "10.0.0.3", Members::Ignore).await, "only members were listed");
    assert!(!allows(options(&["10.9.9.9"], true), "10.0.0.2", Members::Ignore).await);
    cluster.members.get_mut(&"pg2".into()).unwrap().doc.api_url = Some("https://localhost:8008/patroni".into());
    assert!(allows(options(&[], true), "::ffff:127.0.0.1", count(&cluster)).await);
    cluster.members.get_mut(&"pg2".into()).unwrap().doc.api_url = Some("http://[2001:db8::7]:8008/patroni".into());
    assert!(allows(options(&[], true), "2001:db8::7", count(&cluster)).await);
}

#[actix_rt::test]
async fn a_client_without_an_address_is_on_no_list() {
    let access = Access::without_names(&options(&["0.0.0.0/0"], false));
    assert_eq!(access.check(Caller::default(), Members::Ignore).await, Err(Denied::Address));
}

#[actix_rt::test]
async fn a_certificate_comes_before_credentials() {
    let login = Some(BasicLogin::new("admin", "x"));
    let access = Access::without_names(&AccessOptions { login, certificate: true, ..AccessOptions::default() });
    for (verified, outcome) in [(false, Denied::NoCertificate), (true, Denied::NoCredentials)] {
        assert_eq!(access.check(Caller { verified, ..Caller::default() }, Members::Ignore).await, Err(outcome));
    }
}

#[actix_rt::test]
async fn credentials_must_be_exactly_right() {
    let login = Some(BasicLogin::new("admin", "s:cret"));
    let access = Access::without_names(&AccessOptions { login, ..AccessOptions::default() });
    for (header, outcome) in [
        (None, Err(Denied::NoCredentials)),
        (Some("Basic YWRtaW46czpjcmV0"), Ok(())),
        (Some("basic YWRtaW46czpjcmV0"), Err(Denied::WrongCredentials)),
        (Some("Basic YWRtaW46czpjcmV1"), Err(Denied::WrongCredentials)),
        (Some("Basic YWRtaW46czpjcmV0 "), Err(Denied::WrongCredentials)),
        (Some("Basic "), Err(Denied::WrongCredentials)),
        (Some(""), Err(Denied::WrongCredentials)),
    ] {
        let answer = access
            .check(Caller { authorization: header.map(str::as_bytes), ..Caller::default() }, Members::Ignore)
            .await;
        assert_eq!(answer, outcome, "{header:?}");
    }
    assert!(!format!("{access:?}").contains("YWRt"), "secrets are not shown");
}

#[test]
fn the_texts_are_those_clients_know() {
    for (denied, code, text) in [
        (Denied::Address, 403, "Access is denied"),
        (Denied::NoCredentials, 401, "no auth header received"),
        (Denied::WrongCredentials, 401, "not authenticated"),
    ] {
        let answer = denied.answer();
        assert_eq!((answer.code.as_u16(), answer.body.as_deref()), (code, Some(text)));
    }
}
