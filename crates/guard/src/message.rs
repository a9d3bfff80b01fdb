//! What agent and guard say to each other: messages of one fixed size, the protocol's version first. An agent knows
//! the guards of other versions by the names of their sockets; `Replaced` is written the same in every version.

use pgherd_types::{FenceOrder, Instant, LeaseId};

/// Of the messages and of the names in the state directory.
pub(crate) const VERSION: u8 = 1;
/// Bytes in a message: version, kind, 6 unused, number, lease, stop_at, kill_at; integers have the low byte first.
pub(crate) const LEN: usize = 40;

const DISARMED: u8 = 1;
const ARMED: u8 = 2;
const QUIT: u8 = 3;
const REPLACED: u8 = 4;
const TAKEN: u8 = 5;
const REFUSED: u8 = 6;

/// From the agent.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Request {
    /// From now on this is in force.
    Order(FenceOrder),
    /// Everything is left in order; refused while an order is in force.
    Quit,
    /// A guard of another version has taken the order.
    Replaced,
}

/// From the guard.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Taken,
    Refused,
}

pub(crate) type Message = [u8; LEN];

pub(crate) fn request(number: u64, request: Request) -> Message {
    match request {
        Request::Order(FenceOrder::Disarmed) => message(DISARMED, number, [0; 3]),
        Request::Order(FenceOrder::Armed { lease, stop_at, kill_at }) => {
            message(ARMED, number, [lease.0.cast_unsigned(), stop_at.as_millis(), kill_at.as_millis()])
        }
        Request::Quit => message(QUIT, number, [0; 3]),
        Request::Replaced => message(REPLACED, number, [0; 3]),
    }
}

pub(crate) fn answer(number: u64, answer: Answer) -> Message {
    message(if answer == Answer::Taken { TAKEN } else { REFUSED }, number, [0; 3])
}

/// `None` for what this version does not understand.
pub(crate) fn read_request(bytes: &[u8]) -> Option<(u64, Request)> {
    if bytes.get(1) == Some(&REPLACED) {
        return Some((0, Request::Replaced));
    }
    let (kind, [number, lease, stop_at, kill_at]) = read(bytes)?;
    let order = match kind {
        DISARMED => FenceOrder::Disarmed,
        ARMED => FenceOrder::Armed {
            lease: LeaseId(lease.cast_signed()),
            stop_at: Instant::from_millis(stop_at),
            kill_at: Instant::from_millis(kill_at),
        },
        QUIT => return Some((number, Request::Quit)),
        _ => return None,
    };
    Some((number, Request::Order(order)))
}

pub(crate) fn read_answer(bytes: &[u8]) -> Option<(u64, Answer)> {
    match read(bytes)? {
        (TAKEN, [number, ..]) => Some((number, Answer::Taken)),
        (REFUSED, [number, ..]) => Some((number, Answer::Refused)),
        _ => None,
    }
}

fn message(kind: u8, number: u64, rest: [u64; 3]) -> Message {
    let mut bytes = [0; LEN];
    bytes[0] = VERSION;
    bytes[1] = kind;
    for (place, value) in bytes[8..].chunks_exact_mut(8).zip([number, rest[0], rest[1], rest[2]]) {
        place.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

fn read(bytes: &[u8]) -> Option<(u8, [u64; 4])> {
    if bytes.len() != LEN || bytes[0] != VERSION {
        return None;
    }
    let mut values = [0; 4];
    for (value, place) in values.iter_mut().zip(bytes[8..].chunks_exact(8)) {
        *value = u64::from_le_bytes(place.try_into().ok()?);
    }
    Some((bytes[1], values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_come_back_as_they_were() {
        let armed = FenceOrder::Armed {
            lease: LeaseId(-7),
            stop_at: Instant::from_millis(u64::MAX),
            kill_at: Instant::from_millis(3),
        };
        for wanted in [Request::Order(FenceOrder::Disarmed), Request::Order(armed), Request::Quit] {
            assert_eq!(read_request(&request(9, wanted)), Some((9, wanted)));
            assert_eq!(read_answer(&request(9, wanted)), None);
        }
        for wanted in [Answer::Taken, Answer::Refused] {
            assert_eq!(read_answer(&answer(u64::MAX, wanted)), Some((u64::MAX, wanted)));
            assert_eq!(read_request(&answer(1, wanted)), None);
        }
    }

    #[test]
    fn another_version_and_another_size_are_not_understood_but_for_the_word_of_a_successor() {
        let mut foreign = request(1, Request::Quit);
        foreign[0] = VERSION + 1;
        assert_eq!(read_request(&foreign), None);
        assert_eq!(read_request(&request(1, Request::Quit)[..LEN - 1]), None);
        assert_eq!(read_request(&[]), None);
        assert_eq!(read_request(&[VERSION + 1, REPLACED]), Some((0, Request::Replaced)));
    }
}
