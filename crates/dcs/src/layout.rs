//! Where each key of a cluster lives: `/<namespace>/<scope>/…` (docs/dcs-layout.md).

use pgherd_types::MemberName;

/// The keys of one cluster, seen from one member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    prefix: String,
    me: MemberName,
}

impl Layout {
    /// A leading slash is always there, and runs of slashes count as one: `/db/` and `db` are the same namespace.
    pub fn new(namespace: &str, scope: &str, me: MemberName) -> Self {
        let mut prefix = String::from("/");
        for part in namespace.split('/').chain(scope.split('/')).filter(|part| !part.is_empty()) {
            prefix.push_str(part);
            prefix.push('/');
        }
        Self { prefix, me }
    }
    /// `/<namespace>/<scope>/`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
    /// This member.
    pub fn me(&self) -> &MemberName {
        &self.me
    }
    /// A key directly under the prefix, such as `leader`.
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
    /// This member's key.
    pub fn my_member(&self) -> String {
        format!("{}members/{}", self.prefix, self.me)
    }
    /// The first key after every key that begins with the prefix.
    pub fn range_end(&self) -> Vec<u8> {
        let mut end = self.prefix.clone().into_bytes();
        while let Some(last) = end.pop() {
            if last < 0xff {
                end.push(last + 1);
                break;
            }
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_do_not_matter() {
        for namespace in ["service", "/service", "/service/", "//service//"] {
            let layout = Layout::new(namespace, "main", "a".into());
            assert_eq!(layout.prefix(), "/service/main/");
            assert_eq!(layout.key("leader"), "/service/main/leader");
            assert_eq!(layout.my_member(), "/service/main/members/a");
            assert_eq!(layout.range_end(), b"/service/main0");
        }
        assert_eq!(Layout::new("/a//b/", "c", "x".into()).prefix(), "/a/b/c/");
        assert_eq!(Layout::new("", "c", "x".into()).prefix(), "/c/");
    }
}
