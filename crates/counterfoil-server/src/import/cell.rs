//! One value of one row, as a source has it: [`Cell`], and what it can be read as.
//!
//! A source is somebody else's database. SQLite keeps any type in any column, a dump is whatever its author wrote, and what was
//! damaged years ago is still there. So nothing here panics and nothing is guessed: a value reads as what its column is for, or
//! is an [`Odd`] one that becomes a line of the report.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use counterfoil::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// A value as a source has it.
#[derive(Clone, PartialEq)]
pub(crate) enum Cell {
    Null,
    Flag(bool),
    Int(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// What no column of a package holds: a list, an object, text that is not UTF-8, something too long.
    Odd(Odd),
}

/// No value of a column that is read here is longer, in bytes; what is has been cut off by the source, and is [`Odd::TooLong`].
pub(crate) const MAX_CELL: usize = 4096;

/// Why a value does not read as what its column is for. Never quotes it: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Odd {
    Missing,
    Type,
    NaturalKey,
    NotUtf8,
    Nul,
    TooLong,
    NoNumber,
    NoTime,
    NoSpan,
    NoBytes,
}

impl Odd {
    pub(crate) const fn why(self) -> &'static str {
        match self {
            Odd::Missing => "is empty",
            Odd::Type => "has a value of another type",
            Odd::NaturalKey => "is a natural key: dump without --natural-foreign and --natural-primary",
            Odd::NotUtf8 => "is not UTF-8",
            Odd::Nul => "has a NUL in it",
            Odd::TooLong => "is too long",
            Odd::NoNumber => "is no whole number",
            Odd::NoTime => "is no time",
            Odd::NoSpan => "is no length of time",
            Odd::NoBytes => "are not the bytes of a digest",
        }
    }
}

impl Cell {
    /// Text of a source, held against [`MAX_CELL`].
    pub(crate) fn of_text(text: &str) -> Cell {
        if text.len() > MAX_CELL { Cell::Odd(Odd::TooLong) } else { Cell::Text(text.to_owned()) }
    }

    /// The text, which may be empty; `None` where there is no value.
    pub(crate) fn text(&self) -> Result<Option<&str>, Odd> {
        match self {
            Cell::Null => Ok(None),
            Cell::Text(text) if text.contains('\0') => Err(Odd::Nul),
            Cell::Text(text) => Ok(Some(text)),
            Cell::Odd(odd) => Err(*odd),
            Cell::Flag(_) | Cell::Int(_) | Cell::Real(_) | Cell::Bytes(_) => Err(Odd::Type),
        }
    }

    /// The text of a column that is never without one.
    pub(crate) fn some_text(&self) -> Result<&str, Odd> {
        self.text()?.filter(|text| !text.is_empty()).ok_or(Odd::Missing)
    }

    /// The text of a key: a number, a UUID, or whatever a custom user table has.
    pub(crate) fn key(&self) -> Result<String, Odd> {
        match self {
            Cell::Int(number) => Ok(number.to_string()),
            Cell::Null | Cell::Text(_) | Cell::Odd(_) => self.some_text().map(str::to_owned),
            Cell::Flag(_) | Cell::Real(_) | Cell::Bytes(_) => Err(Odd::Type),
        }
    }

    pub(crate) fn int(&self) -> Result<Option<i64>, Odd> {
        match self {
            Cell::Null => Ok(None),
            Cell::Int(number) => Ok(Some(*number)),
            // What SQLite keeps of `1.0`, and PostgreSQL says of a number.
            Cell::Real(number) if number.fract() == 0.0 && number.abs() < 9e15 => Ok(Some(*number as i64)),
            Cell::Text(text) => text.trim().parse().map(Some).map_err(|_| Odd::NoNumber),
            Cell::Odd(odd) => Err(*odd),
            Cell::Real(_) => Err(Odd::NoNumber),
            Cell::Flag(_) | Cell::Bytes(_) => Err(Odd::Type),
        }
    }

    /// A yes or a no: `true`, 1, `t`; never anything else, because a guess here lets somebody in.
    pub(crate) fn flag(&self) -> Result<bool, Odd> {
        match self {
            Cell::Flag(flag) => Ok(*flag),
            Cell::Int(0) => Ok(false),
            Cell::Int(1) => Ok(true),
            Cell::Text(text) => match text.as_str() {
                "t" | "true" | "True" | "1" => Ok(true),
                "f" | "false" | "False" | "0" => Ok(false),
                _ => Err(Odd::Type),
            },
            Cell::Null => Err(Odd::Missing),
            Cell::Odd(odd) => Err(*odd),
            Cell::Int(_) | Cell::Real(_) | Cell::Bytes(_) => Err(Odd::Type),
        }
    }

    /// An instant. Without an offset it is UTC, which is what Django writes to SQLite.
    pub(crate) fn time(&self) -> Result<Option<Timestamp>, Odd> {
        let Some(text) = self.text()? else { return Ok(None) };
        let instant = match text.parse::<jiff::Timestamp>() {
            Ok(instant) => instant,
            Err(_) => {
                let naive: DateTime = text.parse().map_err(|_| Odd::NoTime)?;
                naive.to_zoned(TimeZone::UTC).map_err(|_| Odd::NoTime)?.timestamp()
            }
        };
        // Cut rather than rounded: nothing lives longer here than there.
        let millis = instant.as_millisecond();
        if millis > Timestamp::MAX.millis() { Err(Odd::NoTime) } else { Ok(Some(Timestamp::from_millis(millis))) }
    }

    /// The end of a life. A date beyond all that can be counted, as some write for never, is the last that can.
    pub(crate) fn end(&self) -> Result<Option<Timestamp>, Odd> {
        match (self.time(), self.text()) {
            (Err(Odd::NoTime), Ok(Some(text))) if text.starts_with("9999-12-3") => Ok(Some(Timestamp::MAX)),
            (time, _) => time,
        }
    }

    pub(crate) fn some_time(&self) -> Result<Timestamp, Odd> {
        self.time()?.ok_or(Odd::Missing)
    }

    /// A length of time in microseconds: a number of them, or Django's `[DAYS ]HH:MM:SS[.FRACTION]`.
    pub(crate) fn micros(&self) -> Result<i64, Odd> {
        match self {
            Cell::Text(text) => match text.split('.').next().unwrap_or_default().parse() {
                Ok(micros) => Ok(micros),
                Err(_) => django_span(text).ok_or(Odd::NoSpan),
            },
            Cell::Null | Cell::Flag(_) | Cell::Int(_) | Cell::Real(_) | Cell::Bytes(_) | Cell::Odd(_) => {
                self.int()?.ok_or(Odd::Missing)
            }
        }
    }

    /// So many bytes; a dump has them in base64.
    pub(crate) fn bytes<const N: usize>(&self) -> Result<[u8; N], Odd> {
        let decoded;
        let bytes = match self {
            Cell::Bytes(bytes) => bytes.as_slice(),
            Cell::Text(text) => {
                decoded = STANDARD.decode(text).map_err(|_| Odd::NoBytes)?;
                decoded.as_slice()
            }
            Cell::Null => return Err(Odd::Missing),
            Cell::Odd(odd) => return Err(*odd),
            Cell::Flag(_) | Cell::Int(_) | Cell::Real(_) => return Err(Odd::Type),
        };
        bytes.try_into().map_err(|_| Odd::NoBytes)
    }
}

/// Values are not printed: most columns that are read here hold secrets or digests.
impl std::fmt::Debug for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Cell::Null => "Null",
            Cell::Flag(_) => "Flag",
            Cell::Int(_) => "Int",
            Cell::Real(_) => "Real",
            Cell::Text(_) => "Text",
            Cell::Bytes(_) => "Bytes",
            Cell::Odd(_) => "Odd",
        })
    }
}

/// What `django.utils.duration.duration_string` writes, in microseconds.
pub(crate) fn django_span(text: &str) -> Option<i64> {
    let (days, clock) = match text.split_once(' ') {
        Some((days, clock)) => (days.parse::<i64>().ok()?, clock),
        None => (0, text),
    };
    let mut parts = clock.splitn(3, ':');
    let digits = |text: &str| (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(());
    let mut number = || {
        let part = parts.next()?;
        digits(part)?;
        part.parse::<i64>().ok()
    };
    let (hours, minutes) = (number()?, number()?);
    let seconds = parts.next()?;
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    digits(seconds)?;
    digits(fraction)?;
    let micros: i64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    let seconds = hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?.checked_add(seconds.parse().ok()?)?;
    days.checked_mul(86_400)?.checked_add(seconds)?.checked_mul(1_000_000)?.checked_add(micros)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Cell {
        Cell::of_text(text)
    }

    #[test]
    fn times_read_as_every_database_of_django_writes_them() {
        let expected = "2036-11-17T09:34:05.094Z".parse::<jiff::Timestamp>().expect("time").as_millisecond();
        for written in [
            "2036-11-17 09:34:05.094044",
            "2036-11-17 09:34:05.094044+00",
            "2036-11-17 11:34:05.094044+02:00",
            "2036-11-17T09:34:05.094Z",
            "2036-11-17T09:34:05.094044+00:00",
        ] {
            assert_eq!(text(written).time().map(|at| at.map(Timestamp::millis)), Ok(Some(expected)), "{written}");
        }
        assert_eq!(text("2026-11-20 09:34:05").time().map(|at| at.is_some()), Ok(true), "a whole second");
        assert_eq!(Cell::Null.time(), Ok(None));
        for wrong in ["", "infinity", "-infinity", "yesterday", "2026-13-01 00:00:00", "0044-03-15 BC", "12"] {
            assert_eq!(text(wrong).time(), Err(Odd::NoTime), "{wrong}");
        }
        assert_eq!(Cell::Int(12).time(), Err(Odd::Type));
        assert_eq!(text("2026-11-20 09:34:05\0").time(), Err(Odd::Nul));
    }

    #[test]
    fn flags_are_yes_or_no_and_nothing_else() {
        for yes in [Cell::Int(1), Cell::Flag(true), text("t"), text("true"), text("True"), text("1")] {
            assert_eq!(yes.flag(), Ok(true));
        }
        for no in [Cell::Int(0), Cell::Flag(false), text("f"), text("False"), text("0")] {
            assert_eq!(no.flag(), Ok(false));
        }
        for odd in [Cell::Int(2), Cell::Int(-1), text("yes"), text(""), Cell::Real(1.0), Cell::Bytes(vec![1])] {
            assert_eq!(odd.flag(), Err(Odd::Type));
        }
        assert_eq!(Cell::Null.flag(), Err(Odd::Missing));
    }

    #[test]
    fn spans_read_as_microseconds() {
        for (span, micros) in [
            (text("315360000000000"), 315_360_000_000_000),
            (text("3600000000.000000"), 3_600_000_000),
            (Cell::Int(7), 7),
            (text("3650 00:00:00"), 315_360_000_000_000),
            (text("01:00:00"), 3_600_000_000),
            (text("-1 23:59:59.5"), -500_000),
        ] {
            assert_eq!(span.micros(), Ok(micros));
        }
        for wrong in
            ["", "P7D", "1:2", "a 00:00:00", "00:00:-1", "99999999999999999999", "9223372036854775807 00:00:00"]
        {
            assert_eq!(text(wrong).micros(), Err(Odd::NoSpan), "{wrong}");
        }
    }

    #[test]
    fn bytes_are_as_many_as_a_digest_has() {
        assert_eq!(Cell::Bytes(vec![7; 64]).bytes(), Ok([7; 64]));
        assert_eq!(text(&STANDARD.encode([7; 64])).bytes(), Ok([7; 64]), "in a dump");
        for wrong in [Cell::Bytes(vec![7; 63]), Cell::Bytes(vec![]), text("!"), text("")] {
            assert_eq!(wrong.bytes::<64>(), Err(Odd::NoBytes));
        }
        assert_eq!(Cell::Int(7).bytes::<64>(), Err(Odd::Type));
    }

    #[test]
    fn a_value_is_never_printed() {
        for cell in [text("hunter2"), Cell::Bytes(b"hunter2".to_vec())] {
            assert!(!format!("{cell:?}").contains("hunter"));
        }
    }

    proptest! {
        #[test]
        fn no_value_is_too_odd_to_be_judged(written in ".{0,64}", number: i64, real: f64) {
            for cell in [text(&written), Cell::Int(number), Cell::Real(real), Cell::Bytes(written.clone().into_bytes())] {
                cell.text().ok();
                cell.key().ok();
                cell.int().ok();
                cell.flag().ok();
                cell.time().ok();
                cell.micros().ok();
                cell.bytes::<64>().ok();
            }
        }
    }
}
