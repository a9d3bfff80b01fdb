//! `synchronous_standby_names` as text: PostgreSQL's grammar for reading, one form for writing
//! (spec/sync-and-quorum.md 3).

use crate::sync::{PLACEHOLDER, StandbyNames, SyncKind, SyncName, SyncNames};
use std::fmt;

/// The text is not one that PostgreSQL accepts.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct NotStandbyNames;

impl fmt::Display for NotStandbyNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a list of standby names as synchronous_standby_names takes it")
    }
}

impl std::error::Error for NotStandbyNames {}

/// The text PostgreSQL is given: empty, `a`, `2 (a,b)`, `ANY 1 (a,b)`.
impl fmt::Display for StandbyNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return Ok(());
        }
        let mut names: Vec<String> = self.names.iter().map(quoted).collect();
        names.sort_unstable();
        names.extend(self.has_star.then(|| "*".to_owned()));
        let (number, list) = (self.number, names.join(","));
        match (self.kind, number, names.len()) {
            (SyncKind::First, 1, 1) => f.write_str(&list),
            (SyncKind::First, ..) => write!(f, "{number} ({list})"),
            (SyncKind::Any, ..) => write!(f, "ANY {number} ({list})"),
        }
    }
}

/// In double quotes unless it is a plain word that is no keyword.
fn quoted(name: &SyncName) -> String {
    let name = name.as_str();
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let plain = begins && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    match plain && !is_word(name, "first") && !is_word(name, "any") {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

fn is_word(text: &str, word: &str) -> bool {
    text.eq_ignore_ascii_case(word)
}

#[derive(PartialEq, Debug)]
enum Token {
    Any,
    First,
    Number(String),
    Name(String),
    Comma,
    Open,
    Close,
}

impl std::str::FromStr for StandbyNames {
    type Err = NotStandbyNames;
    /// All of PostgreSQL's forms. An empty text waits for nobody; one that PostgreSQL refuses is an error.
    fn from_str(text: &str) -> Result<Self, NotStandbyNames> {
        if text.is_empty() {
            return Ok(Self::none());
        }
        let tokens = tokens(text)?;
        let (kind, number, list) = match tokens.as_slice() {
            [Token::Any, Token::Number(n), Token::Open, list @ .., Token::Close] => (SyncKind::Any, number(n)?, list),
            [Token::First, Token::Number(n), Token::Open, list @ .., Token::Close]
            | [Token::Number(n), Token::Open, list @ .., Token::Close] => (SyncKind::First, number(n)?, list),
            list => (SyncKind::First, 1, list),
        };
        let mut names = Self { kind, number, names: SyncNames::new(), has_star: false };
        for (at, token) in list.iter().enumerate() {
            match (at % 2, token) {
                // in quotes, too, it stands for everybody
                (0, Token::Name(name)) if name == "*" => names.has_star = true,
                (0, Token::Name(name) | Token::Number(name)) => drop(names.names.insert(name.as_str().into())),
                (1, Token::Comma) => {}
                _ => return Err(NotStandbyNames),
            }
        }
        if list.len() % 2 == 1 { Ok(names) } else { Err(NotStandbyNames) }
    }
}

impl StandbyNames {
    /// The same, a text that PostgreSQL would refuse counting as none.
    pub fn read(text: &str) -> Self {
        text.parse().unwrap_or_default()
    }
    /// The names without the placeholder.
    pub fn known(&self) -> SyncNames {
        self.names.iter().filter(|name| !is_word(name.as_str(), PLACEHOLDER)).cloned().collect()
    }
}

/// PostgreSQL reads it with `atoi`, which cuts off what does not fit, and refuses what is not positive.
fn number(digits: &str) -> Result<u32, NotStandbyNames> {
    let wide = digits.parse::<i64>().unwrap_or(i64::MAX);
    u32::try_from(wide as i32).ok().filter(|n| *n > 0).ok_or(NotStandbyNames)
}

fn tokens(text: &str) -> Result<Vec<Token>, NotStandbyNames> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => 1,
            '"' => {
                let (name, length) = quoted_name(rest)?;
                tokens.push(Token::Name(name));
                length
            }
            c => {
                let length = word_length(rest, c);
                tokens.push(plain_token(&rest[..length], c)?);
                length
            }
        };
        rest = &rest[length..];
    }
    Ok(tokens)
}

fn word_length(rest: &str, first: char) -> usize {
    let belongs = |c: char| match first {
        '0'..='9' => c.is_ascii_digit(),
        first if begins_name(first) => continues_name(c),
        _ => false,
    };
    first.len_utf8() + rest.chars().skip(1).take_while(|c| belongs(*c)).map(char::len_utf8).sum::<usize>()
}

fn begins_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn continues_name(c: char) -> bool {
    begins_name(c) || c.is_ascii_digit() || c == '$'
}

fn plain_token(word: &str, first: char) -> Result<Token, NotStandbyNames> {
    Ok(match first {
        ',' => Token::Comma,
        '(' => Token::Open,
        ')' => Token::Close,
        '0'..='9' => Token::Number(word.to_owned()),
        _ if is_word(word, "any") => Token::Any,
        _ if is_word(word, "first") => Token::First,
        c if c == '*' || begins_name(c) => Token::Name(word.to_owned()),
        _ => return Err(NotStandbyNames),
    })
}

/// A name in double quotes, two of which stand for one; and how many bytes it takes.
fn quoted_name(text: &str) -> Result<(String, usize), NotStandbyNames> {
    let mut name = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if chars.next_if(|(_, next)| *next == '"').is_some() => name.push('"'),
            '"' => return Ok((name, at + 1)),
            c => name.push(c),
        }
    }
    Err(NotStandbyNames)
}

#[cfg(test)]
mod tests;
