//! Which events are wanted.

use crate::query::Parameters;
use pgherd_protocol::events::{Event, EventId, Kinds};

/// So many without `limit`, and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    /// So many, where not all are.
    pub limit: usize,
    /// Only those after this one; `None`: the newest, or for one who follows those to come.
    pub since: Option<EventId>,
    kinds: Kinds,
}

impl Query {
    /// From the query string; a client that comes back says in a header up to where it was.
    pub fn read(query: &str, last_id: Option<&str>) -> Result<Self, String> {
        let parameters = Parameters::parse(query)?;
        let limit = match parameters.get("limit").map(|text| (text, text.parse::<usize>())) {
            None => LIMIT,
            Some((_, Ok(limit))) if (1..=LIMIT_MAX).contains(&limit) => limit,
            Some((text, _)) => return Err(format!("limit={text}: must be a number from 1 to {LIMIT_MAX}")),
        };
        let since = last_id.filter(|id| !id.is_empty()).or(parameters.get("since"));
        Ok(Self { limit, since: since.map(str::parse).transpose()?, kinds: kinds(parameters.get("type"))? })
    }

    /// Is it of a kind that is wanted?
    pub fn wants(&self, event: &Event) -> bool {
        self.kinds.include(&event.kind)
    }
}

fn kinds(text: Option<&str>) -> Result<Kinds, String> {
    Kinds::read(text.into_iter().flat_map(|text| text.split(','))).map_err(|what| format!("type={what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(query: &str, kind: &str) -> bool {
        let event = Event { id: EventId::default(), kind: kind.into(), text: String::new() };
        Query::read(query, None).unwrap().wants(&event)
    }

    #[test]
    fn kinds_are_whole_words() {
        for (query, kind, wanted) in [
            ("", "pgherd.leader.lost", true),
            ("type=leader", "pgherd.leader.lost", true),
            ("type=pgherd.leader.lost", "pgherd.leader.lost", true),
            ("type=sync,leader.lost", "pgherd.leader.lost", true),
            ("type=lead", "pgherd.leader.lost", false),
            ("type=leader.elected", "pgherd.leader.lost", false),
        ] {
            assert_eq!(wants(query, kind), wanted, "{query} {kind}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in
            ["limit=0", "limit=1001", "limit=x", "limit=-1", "since=x", "since=3", "type=A", "type=a,,b", "type=%00"]
        {
            assert!(Query::read(bad, None).is_err(), "{bad}");
        }
        assert!(Query::read("", Some("rubbish")).is_err());
        let query = Query::read("since=1.2&limit=7", Some("1.5")).unwrap();
        assert_eq!((query.since.unwrap().seq, query.limit), (5, 7), "what the client has seen since counts");
        assert_eq!(Query::read("since=&limit=", Some("")).unwrap(), Query::read("", None).unwrap());
    }
}
