//! Lists that are read page by page, and the texts that lead from one page to the next.

use super::Authority;
use crate::refusal::Refusal;
use crate::token::{Identity, Kind};
use crate::username::Username;

/// Which page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// After what; `None`: from the start.
    pub after: Option<Cursor>,
    /// At most so many; never more than [`PageRequest::MOST`].
    pub limit: u32,
}

impl PageRequest {
    /// Most records on a page.
    pub const MOST: u32 = 200;
}

impl Default for PageRequest {
    /// The first 50.
    fn default() -> Self {
        PageRequest { after: None, limit: 50 }
    }
}

/// Where a page ended. Handed to the client as a text that it cannot make itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(u64);

impl Cursor {
    /// Behind the record of this number.
    pub const fn after(number: u64) -> Cursor {
        Cursor(number)
    }

    /// The number of the last record on the page.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// Some records and where the next ones start.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The records.
    pub items: Vec<T>,
    /// What to ask for next; `None` at the end.
    pub next: Option<Cursor>,
}

/// A list that is read page by page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// One's own tokens of this kind.
    Own(Kind),
    /// Everybody's tokens.
    Tokens,
    /// Accounts.
    Users,
    /// The audit log.
    Audit,
}

impl List {
    const fn as_str(self) -> &'static str {
        match self {
            List::Own(Kind::Login) => "own login",
            List::Own(Kind::Key) => "own key",
            List::Tokens => "tokens",
            List::Users => "users",
            List::Audit => "audit",
        }
    }
}

/// Where in a list a page may end.
pub trait Place: Sized {
    /// It as bytes, in one way only.
    fn to_bytes(&self) -> Vec<u8>;
    /// What [`Place::to_bytes`] wrote.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

impl Place for Cursor {
    fn to_bytes(&self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(u64::from_be_bytes).map(Cursor)
    }
}

/// Accounts are listed by name.
impl Place for Username {
    fn to_bytes(&self) -> Vec<u8> {
        self.as_str().as_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok()?.parse().ok()
    }
}

impl Authority {
    /// The text of a place in a list that `who` reads: its bytes and a tag over them, so that a client can neither guess one
    /// nor carry it to another list or another subject.
    pub fn cursor_text<P: Place>(&self, place: &P, list: List, who: &Identity) -> String {
        let bytes = place.to_bytes();
        let tag = self.format.newest_key().tag("cursor", &tagged(&bytes, list, who));
        format!("{}.{tag:016x}", hex(&bytes))
    }

    /// Reads what [`Authority::cursor_text`] wrote for the same list and the same subject.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for every other text.
    pub fn cursor<P: Place>(&self, text: &str, list: List, who: &Identity) -> Result<P, Refusal> {
        let refused = || Refusal::invalid("cursor", "use the value of `next` from the page before");
        let (place, tag) = text.split_once('.').ok_or_else(refused)?;
        let bytes = unhex(place).ok_or_else(refused)?;
        let tag = u64::from_str_radix(tag, 16).map_err(|_| refused())?;
        let tagged = tagged(&bytes, list, who);
        let ours = self.format.keys().any(|key| key.tag("cursor", &tagged) == tag);
        // Written back, so that one cursor has one spelling.
        if !ours || format!("{}.{tag:016x}", hex(&bytes)) != text {
            return Err(refused());
        }
        P::from_bytes(&bytes).ok_or_else(refused)
    }
}

/// The name of a list and a subject hold no NUL, and so say where they end.
fn tagged(place: &[u8], list: List, who: &Identity) -> Vec<u8> {
    [list.as_str().as_bytes(), b"\0", who.subject.as_str().as_bytes(), b"\0", place].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}
