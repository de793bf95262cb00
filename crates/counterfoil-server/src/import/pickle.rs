//! The pickles of djforge-redis-multitokens, and no others: [`read`].
//!
//! A pickle is a program, and unpickling runs it: whoever can write to that Redis runs code in the app. The package writes two
//! shapes only, a list of texts and a text, so that is all that is understood here: eleven instructions, none of which names
//! anything to be called. No stack, no memo, no loop that an input could prolong: each byte is looked at once.

use std::fmt;

/// What djforge keeps under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pickle {
    /// Under the hash of a token: the key of its user.
    Text(String),
    /// Under the key of a user: the hashes of their tokens.
    Texts(Vec<String>),
}

/// The bytes are no pickle of a text or of a list of texts. What they are is not said: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotOurs;

impl fmt::Display for NotOurs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a pickled text or list of texts as the package writes them")
    }
}

impl std::error::Error for NotOurs {}

/// Longest pickle that is looked at, in bytes: some ten thousand tokens of one user.
pub const MAX_PICKLE: usize = 1024 * 1024;
/// Longest text in one, in bytes; a hash has 87.
const MAX_TEXT: usize = 512;

const PROTO: u8 = 0x80;
const FRAME: u8 = 0x95;
const EMPTY_LIST: u8 = b']';
const MARK: u8 = b'(';
const APPENDS: u8 = b'e';
const APPEND: u8 = b'a';
const BINUNICODE: u8 = b'X';
const SHORT_BINUNICODE: u8 = 0x8c;
const MEMOIZE: u8 = 0x94;
const BINPUT: u8 = b'q';
const LONG_BINPUT: u8 = b'r';
const STOP: u8 = b'.';

/// Reads what protocols 2 to 5 of Python 3 make of a text or of a list of texts.
///
/// # Errors
/// [`NotOurs`] for everything else: other shapes, other instructions, what is cut off, goes on behind its end, or is too long.
pub fn read(bytes: &[u8]) -> Result<Pickle, NotOurs> {
    if bytes.len() > MAX_PICKLE {
        return Err(NotOurs);
    }
    let mut rest = Rest(bytes);
    if rest.byte()? != PROTO || !(2..=5).contains(&rest.byte()?) {
        return Err(NotOurs);
    }
    rest.frame()?;
    let pickle = if rest.take_if(EMPTY_LIST) {
        rest.memo()?;
        Pickle::Texts(rest.texts()?)
    } else {
        Pickle::Text(rest.text()?)
    };
    if rest.byte()? == STOP && rest.0.is_empty() { Ok(pickle) } else { Err(NotOurs) }
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take(&mut self, length: usize) -> Result<&[u8], NotOurs> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(NotOurs)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, NotOurs> {
        self.take(1)?.first().copied().ok_or(NotOurs)
    }

    fn take_if(&mut self, wanted: u8) -> bool {
        let is = self.0.first() == Some(&wanted);
        if is {
            self.0 = &self.0[1..];
        }
        is
    }

    /// The length of what follows, from protocol 4 on. Everything is in memory, so it says nothing new.
    fn frame(&mut self) -> Result<(), NotOurs> {
        if self.take_if(FRAME) {
            self.take(8)?;
        }
        Ok(())
    }

    /// A number that Python gives what it may come back to; the package's shapes never do.
    fn memo(&mut self) -> Result<(), NotOurs> {
        if self.take_if(BINPUT) {
            self.take(1)?;
        } else if self.take_if(LONG_BINPUT) {
            self.take(4)?;
        } else {
            self.take_if(MEMOIZE);
        }
        Ok(())
    }

    /// What is appended to a list: one at a time or in batches, as Python does beyond a thousand.
    fn texts(&mut self) -> Result<Vec<String>, NotOurs> {
        let mut texts = Vec::new();
        loop {
            // After every 64 KiB a frame begins, wherever that is.
            self.frame()?;
            if self.0.first() == Some(&STOP) {
                return Ok(texts);
            }
            if self.take_if(MARK) {
                self.frame()?;
                while !self.take_if(APPENDS) {
                    texts.push(self.text()?);
                    self.frame()?;
                }
            } else {
                texts.push(self.text()?);
                self.frame()?;
                if self.byte()? != APPEND {
                    return Err(NotOurs);
                }
            }
        }
    }

    fn text(&mut self) -> Result<String, NotOurs> {
        let length = match self.byte()? {
            SHORT_BINUNICODE => self.byte()?.into(),
            BINUNICODE => {
                let length: [u8; 4] = self.take(4)?.try_into().map_err(|_| NotOurs)?;
                usize::try_from(u32::from_le_bytes(length)).map_err(|_| NotOurs)?
            }
            _ => return Err(NotOurs),
        };
        if length > MAX_TEXT {
            return Err(NotOurs);
        }
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| NotOurs)?.to_owned();
        self.memo()?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of_hex(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).expect("hex"), 16).expect("hex")).collect()
    }

    fn texts(texts: &[&str]) -> Pickle {
        Pickle::Texts(texts.iter().map(|&text| text.to_owned()).collect())
    }

    #[test]
    fn every_protocol_of_python_3_is_read() {
        // pickle.dumps("11", n) and pickle.dumps(["a", "b"], n), pickle.dumps(["a"], n), pickle.dumps([], n) of Python 3.11.
        for (hex, pickle) in [
            ("8002580200000031317100 2e", Pickle::Text("11".to_owned())),
            ("8003580200000031317100 2e", Pickle::Text("11".to_owned())),
            ("80049506000000000000008c023131942e", Pickle::Text("11".to_owned())),
            ("80059506000000000000008c023131942e", Pickle::Text("11".to_owned())),
            ("80025d710028580100000061710158010000006271 02652e", texts(&["a", "b"])),
            ("80035d710028580100000061710158010000006271 02652e", texts(&["a", "b"])),
            ("8004950d000000000000005d94288c0161948c016294652e", texts(&["a", "b"])),
            ("80025d7100580100000061710161 2e", texts(&["a"])),
            ("80049508000000000000005d948c016194612e", texts(&["a"])),
            ("80025d71002e", texts(&[])),
            ("80045d942e", texts(&[])),
            ("80055d942e", texts(&[])),
        ] {
            assert_eq!(read(&of_hex(&hex.replace(' ', ""))), Ok(pickle), "{hex}");
        }
    }

    #[test]
    fn a_pickle_that_would_run_code_or_is_anything_else_is_not_read() {
        for hostile in [
            // os.system("true"), in protocols 0, 2 and 4.
            b"cposix\nsystem\n(S'true'\ntR.".as_slice(),
            b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.",
            b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94.",
            // A list with something else in it, a number, bytes, None, a dictionary, a text that comes again by its memo.
            b"\x80\x04]\x94(\x8c\x01a\x94K\x01e.",
            b"\x80\x04K\x01.",
            b"\x80\x04C\x01a\x94.",
            b"\x80\x04N.",
            b"\x80\x04}\x94.",
            b"\x80\x04]\x94(\x8c\x01a\x94h\x01e.",
            b"\x80\x04]\x94]\x94a.",
            // Cut off, going on, empty, of another protocol, with a length beyond the end.
            b"",
            b"\x80",
            b"\x80\x04",
            b"\x80\x04\x8c\x05a\x94.",
            b"\x80\x04\x8c\x01a\x94",
            b"\x80\x04\x8c\x01a\x94..",
            b"\x80\x04\x8c\x01a\x94.x",
            b"\x80\x01X\x01\x00\x00\x00a.",
            b"\x80\x06\x8c\x01a\x94.",
            b"\x80\x04X\xff\xff\xff\xffa.",
            b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa.",
            b"\x80\x04]\x94(\x8c\x01a\x94",
            b"\x80\x04]\x94(((",
            b"\x80\x04\x8c\x01\xff\x94.",
            // Compressed, as a setting of django-redis would have it.
            b"x\x9ck\x61\x99\xca",
        ] {
            assert_eq!(read(hostile), Err(NotOurs), "{hostile:?}");
        }
        assert_eq!(read(&vec![b'('; MAX_PICKLE + 1]), Err(NotOurs));
    }

    fn pickled(texts: &[String], protocol: u8) -> Vec<u8> {
        let mut bytes = vec![PROTO, protocol, EMPTY_LIST, BINPUT, 0, MARK];
        for text in texts {
            bytes.push(BINUNICODE);
            bytes.extend(u32::try_from(text.len()).expect("short").to_le_bytes());
            bytes.extend(text.as_bytes());
            bytes.extend([LONG_BINPUT, 1, 2, 3, 4]);
        }
        bytes.extend([APPENDS, STOP]);
        bytes
    }

    proptest! {
        #[test]
        fn whatever_texts_are_in_a_list_come_out_of_it(texts in prop::collection::vec(".{0,90}", 0..30), protocol in 2_u8..=5) {
            let texts: Vec<String> = texts;
            prop_assert_eq!(read(&pickled(&texts, protocol)), Ok(Pickle::Texts(texts)));
        }

        #[test]
        fn no_bytes_are_too_odd_to_be_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes).ok();
        }

        #[test]
        fn a_pickle_that_is_cut_off_is_none(texts in prop::collection::vec(".{0,90}", 1..5), cut in any::<prop::sample::Index>()) {
            let bytes = pickled(&texts, 4);
            prop_assert_eq!(read(&bytes[..cut.index(bytes.len())]), Err(NotOurs));
        }
    }
}
