//! Spans of time in the words of the Python package `humanize`, which durin tells its users of.

/// Which versions of humanize are spoken: their rounding changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wording {
    /// 4.15 and later: to the nearest.
    Rounded,
    /// 4.14 and earlier: cut.
    Cut,
}

const SECONDS_A_DAY: u64 = 86_400;

/// `naturaldelta` of so many microseconds.
pub(super) fn naturaldelta(micros: u64, wording: Wording) -> String {
    let whole_seconds = micros / 1_000_000;
    let (all_days, seconds) = (whole_seconds / SECONDS_A_DAY, whole_seconds % SECONDS_A_DAY);
    let (years, days) = (all_days / 365, all_days % 365);
    let months = wording.divided(2 * days, 61); // of 30.5 days
    match (years, days) {
        (0, 0) => within_a_day(seconds, wording),
        (0, 1) => "a day".to_owned(),
        (0, _) => match months {
            0 => format!("{days} days"),
            1 => "a month".to_owned(),
            12 => "a year".to_owned(),
            months => format!("{months} months"),
        },
        (1, 0) => "a year".to_owned(),
        (1, _) => match months {
            0 => format!("1 year, {}", counted(days, "day")),
            12 => "2 years".to_owned(),
            months => format!("1 year, {}", counted(months, "month")),
        },
        (_, _) => match wording {
            Wording::Rounded => format!("{} years", with_commas(wording.divided(all_days, 365))),
            Wording::Cut => format!("{} years", with_commas(years)),
        },
    }
}

fn within_a_day(seconds: u64, wording: Wording) -> String {
    match seconds {
        0 => "a moment".to_owned(),
        1 => "a second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..3_600 => match wording.divided(seconds, 60) {
            1 => "a minute".to_owned(),
            60 => "an hour".to_owned(),
            minutes => format!("{minutes} minutes"),
        },
        _ => match wording.divided(seconds, 3_600) {
            1 => "an hour".to_owned(),
            24 => "a day".to_owned(),
            hours => format!("{hours} hours"),
        },
    }
}

impl Wording {
    /// The quotient as this version rounds it; to the nearest as Python does, halves to the even one.
    fn divided(self, number: u64, by: u64) -> u64 {
        let (quotient, rest) = (number / by, number % by);
        let up = match self {
            Wording::Cut => false,
            Wording::Rounded => 2 * rest > by || (2 * rest == by && !quotient.is_multiple_of(2)),
        };
        quotient + u64::from(up)
    }
}

fn counted(number: u64, unit: &str) -> String {
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut written = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Each asked of the package, in four of its versions.
    #[test]
    fn spans_are_told_as_humanize_tells_them() {
        let table: Value = serde_json::from_str(include_str!("humanize_naturaldelta.json")).expect("JSON");
        let mut asked = 0;
        for (version, wording) in
            [("4.17.0", Wording::Rounded), ("4.12.3", Wording::Cut), ("4.4.0", Wording::Cut), ("3.13.1", Wording::Cut)]
        {
            for (span, words) in table[version].as_object().expect("spans") {
                let (seconds, less) = span.split_once('-').map_or((&**span, 0), |(seconds, _)| (seconds, 100));
                let micros: f64 = seconds.parse::<f64>().expect("seconds") * 1e6;
                #[expect(clippy::cast_possible_truncation, reason = "a whole number of microseconds")]
                let micros = micros as i64 - less;
                if micros < 0 && version == "4.4.0" {
                    continue; // a day, in this version alone
                }
                assert_eq!(naturaldelta(micros.unsigned_abs(), wording), *words, "{version}: {span}");
                asked += 1;
            }
        }
        assert_eq!(asked, 543);
    }

    #[test]
    fn thousands_have_commas() {
        assert_eq!(naturaldelta(3_650_000 * SECONDS_A_DAY * 1_000_000, Wording::Cut), "10,000 years");
        assert_eq!(with_commas(999), "999");
        assert_eq!(with_commas(1_234_567), "1,234,567");
    }
}
