//! Points in time as Django writes them: [`DateTimeFormat`].

use counterfoil_core::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::json::Value;

/// How a serializer writes a time, which is always UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DateTimeFormat {
    /// `2026-11-20T09:47:17.768000Z`, always with six digits: a client that expects them is right at every instant.
    Iso,
    /// What Python's `strftime` makes of this.
    Pattern(String),
}

impl DateTimeFormat {
    /// By a setting's text, as Django REST framework reads it.
    pub(crate) fn of(text: &str) -> DateTimeFormat {
        if text.eq_ignore_ascii_case("iso-8601") {
            DateTimeFormat::Iso
        } else {
            DateTimeFormat::Pattern(text.to_owned())
        }
    }

    /// A time as JSON; null where there is none.
    pub(crate) fn value(&self, at: Option<Timestamp>) -> Value {
        let Some(at) = at else { return Value::Null };
        // Beyond the year 9999 nothing is a time any more, in Python neither.
        let Ok(instant) = jiff::Timestamp::from_millisecond(at.millis()) else { return Value::Null };
        let moment = instant.to_zoned(TimeZone::UTC).datetime();
        Value::text(match self {
            DateTimeFormat::Iso => strftime("%Y-%m-%dT%H:%M:%S.%fZ", moment),
            DateTimeFormat::Pattern(pattern) => strftime(pattern, moment),
        })
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Python's on Linux, in the locale `C`: what it does not know stays as it is.
fn strftime(pattern: &str, at: DateTime) -> String {
    let mut written = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    while let Some(percent) = rest.find('%') {
        written.push_str(&rest[..percent]);
        let directive = &rest[percent + 1..];
        let letter = directive.trim_start_matches(['-', '_', '0', '^', '#']);
        let flags = &directive[..directive.len() - letter.len()];
        let Some(character) = letter.chars().next() else {
            written.push_str(&rest[percent..]);
            return written;
        };
        rest = &letter[character.len_utf8()..];
        match field(character, at) {
            Some(field) => written.push_str(&field.with(flags)),
            None => {
                written.push('%');
                written.push_str(flags);
                written.push(character);
            }
        }
    }
    written.push_str(rest);
    written
}

enum Field {
    Number { number: i64, width: usize, pad: char },
    Text(String),
}

impl Field {
    fn with(self, flags: &str) -> String {
        match self {
            Field::Number { number, width, pad } => match flags.chars().rfind(|flag| matches!(flag, '-' | '_' | '0')) {
                Some('-') => number.to_string(),
                Some('_') => format!("{number:>width$}"),
                Some(_) => format!("{number:0>width$}"),
                None if pad == ' ' => format!("{number:>width$}"),
                None => format!("{number:0>width$}"),
            },
            Field::Text(text) if flags.contains('^') => text.to_uppercase(),
            Field::Text(text) => text,
        }
    }
}

fn field(letter: char, at: DateTime) -> Option<Field> {
    let padded = |number: i64, width: usize, pad: char| Some(Field::Number { number, width, pad });
    let number = |number: i64, width: usize| padded(number, width, '0');
    let text = |text: &str| Some(Field::Text(text.to_owned()));
    let composed = |pattern: &str| Some(Field::Text(strftime(pattern, at)));
    let weekday = i64::from(at.weekday().to_monday_zero_offset());
    let weekday_name = WEEKDAYS[usize::from(at.weekday().to_monday_zero_offset().unsigned_abs())];
    let month_name = MONTHS[usize::from((at.month() - 1).unsigned_abs())];
    let (year, hour, of_year) = (i64::from(at.year()), i64::from(at.hour()), i64::from(at.date().day_of_year()));
    let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    let iso = at.date().iso_week_date();
    match letter {
        'a' => text(&weekday_name[..3]),
        'A' => text(weekday_name),
        'b' | 'h' => text(&month_name[..3]),
        'B' => text(month_name),
        'c' => composed("%a %b %e %H:%M:%S %Y"),
        'C' => number(year / 100, 2),
        'd' => number(i64::from(at.day()), 2),
        'D' | 'x' => composed("%m/%d/%y"),
        'e' => padded(i64::from(at.day()), 2, ' '),
        'f' => number(i64::from(at.subsec_nanosecond()) / 1_000, 6),
        'F' => composed("%Y-%m-%d"),
        'g' => number(i64::from(iso.year()) % 100, 2),
        'G' => number(i64::from(iso.year()), 4),
        'H' => number(hour, 2),
        'I' => number(hour12, 2),
        'j' => number(of_year, 3),
        'k' => padded(hour, 2, ' '),
        'l' => padded(hour12, 2, ' '),
        'm' => number(i64::from(at.month()), 2),
        'M' => number(i64::from(at.minute()), 2),
        'n' => text("\n"),
        'p' => text(if hour < 12 { "AM" } else { "PM" }),
        'P' => text(if hour < 12 { "am" } else { "pm" }),
        'r' => composed("%I:%M:%S %p"),
        'R' => composed("%H:%M"),
        's' => number(at.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second(), 1),
        'S' => number(i64::from(at.second()), 2),
        't' => text("\t"),
        'T' | 'X' => composed("%H:%M:%S"),
        'u' => number(weekday + 1, 1),
        'U' => number((of_year + 6 - (weekday + 1) % 7) / 7, 2),
        'V' => number(i64::from(iso.week()), 2),
        'w' => number((weekday + 1) % 7, 1),
        'W' => number((of_year + 6 - weekday) / 7, 2),
        'y' => number(year % 100, 2),
        'Y' => number(year, 4),
        'z' => text("+0000"),
        'Z' => text("UTC"),
        '%' => text("%"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: &str, millis: i64) -> String {
        DateTimeFormat::of(format).value(Some(Timestamp::from_millis(millis))).write(None)
    }

    /// 2026-11-20T09:47:17.768Z, a Friday.
    const FRIDAY: i64 = 1_795_168_037_768;

    /// Each asked of Python 3.11 on Linux.
    #[test]
    fn times_are_written_as_python_writes_them() {
        for (format, expected) in [
            ("iso-8601", "2026-11-20T09:47:17.768000Z"),
            ("ISO-8601", "2026-11-20T09:47:17.768000Z"),
            ("%Y-%m-%d %H:%M:%S", "2026-11-20 09:47:17"),
            (
                "%c|%x|%X|%D|%F|%T|%R|%r",
                "Fri Nov 20 09:47:17 2026|11/20/26|09:47:17|11/20/26|2026-11-20|09:47:17|09:47|09:47:17 AM",
            ),
            ("%a %A %b %B %h %p %P %Z %z", "Fri Friday Nov November Nov AM am UTC +0000"),
            ("%j %U %W %V %G %g %u %w %C %y", "324 46 46 47 2026 26 5 5 20 26"),
            ("%f %s %e %k %l %I", "768000 1795168037 20  9  9 09"),
            ("%-H %_H %0e %^a %%", "9  9 20 FRI %"),
            ("100%", "100%"),
            ("%Q %", "%Q %"),
            ("ä%n%t", "ä\\n\\t"),
        ] {
            assert_eq!(written(format, FRIDAY), format!("\"{expected}\""), "{format}");
        }
        assert_eq!(written("%U %W %j %I %p", 1_798_761_600_000), "\"00 00 001 12 AM\"", "the first of 2027");
    }

    #[test]
    fn a_whole_second_has_its_six_digits_too_and_no_time_is_null() {
        assert_eq!(written("iso-8601", 0), "\"1970-01-01T00:00:00.000000Z\"");
        assert_eq!(DateTimeFormat::Iso.value(None), Value::Null);
    }
}
