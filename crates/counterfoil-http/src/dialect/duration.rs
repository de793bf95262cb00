//! Lengths of time as people write them in Django settings: [`read`].

use counterfoil_core::Lifetime;
use serde_json::Value;

/// What is said of anything else.
pub(super) const EXPECTED: &str =
    "is a number of whole seconds, \"DAYS HH:MM:SS\", ISO 8601 such as \"P3D\", or such as \"30d\"; not 0";

/// A number of seconds, `[DAYS ][[HH:]MM:]SS` as Django has it, ISO 8601 in weeks, days, hours, minutes and seconds, or ours; whole
/// seconds. `None` for anything else, and for no time at all.
pub(super) fn read(value: &Value) -> Option<Lifetime> {
    let seconds = match value {
        Value::Number(number) => match number.as_u64() {
            Some(seconds) => seconds,
            None => whole(number.as_f64()?)?,
        },
        Value::String(text) => match text.parse::<Lifetime>() {
            Ok(lifetime) => return Some(lifetime),
            Err(_) => django(text).or_else(|| iso(text))?,
        },
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    Lifetime::from_seconds(seconds).ok()
}

fn whole(seconds: f64) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be a whole number in range"
    )]
    let whole = (seconds.fract() == 0.0 && (0.0..1e15).contains(&seconds)).then_some(seconds as u64);
    whole
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn django(text: &str) -> Option<u64> {
    let (days, clock) = match text.split_once(' ') {
        Some((days, rest)) => (number(days)?, rest.trim_start_matches("days, ").trim_start_matches("day, ")),
        None => (0, text),
    };
    let parts: Vec<&str> = clock.split(':').collect();
    let (hours, minutes, seconds) = match parts[..] {
        [seconds] => ("0", "0", seconds),
        [minutes, seconds] => ("0", minutes, seconds),
        [hours, minutes, seconds] => (hours, minutes, seconds),
        _ => return None,
    };
    let seconds = seconds.trim_end_matches('0').strip_suffix('.').unwrap_or(seconds);
    let of_day = number(hours)?.checked_mul(3_600)?.checked_add(number(minutes)?.checked_mul(60)?)?;
    days.checked_mul(86_400)?.checked_add(of_day)?.checked_add(number(seconds)?)
}

fn iso(text: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('P').filter(|rest| !rest.is_empty() && !rest.ends_with('T'))?;
    let (mut seconds, mut in_time) = (0_u64, false);
    while !rest.is_empty() {
        if let Some(time) = rest.strip_prefix('T').filter(|_| !in_time) {
            (rest, in_time) = (time, true);
        }
        let end = rest.find(|character: char| !character.is_ascii_digit())?;
        let (digits, after) = rest.split_at(end);
        let mut after = after.chars();
        let unit = match (in_time, after.next()?) {
            (false, 'W') => 604_800,
            (false, 'D') => 86_400,
            (true, 'H') => 3_600,
            (true, 'M') => 60,
            (true, 'S') => 1,
            (_, _) => return None,
        };
        seconds = seconds.checked_add(digits.parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = after.as_str();
    }
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_duration_is_read_in_every_way_in_which_people_write_it() {
        let seconds = |value: Value| read(&value).map(Lifetime::seconds);
        for (value, expected) in [
            (json!(90), 90),
            (json!(90.0), 90),
            (json!("90"), 90),
            (json!("1:30"), 90),
            (json!("1 00:00:00"), 86_400),
            (json!("1 day, 0:00:03"), 86_403),
            (json!("30 days, 1:00:00"), 30 * 86_400 + 3_600),
            (json!("00:00:10.000000"), 10),
            (json!("P3D"), 3 * 86_400),
            (json!("P1WT1H1M1S"), 604_800 + 3_661),
            (json!("30d"), 30 * 86_400),
        ] {
            assert_eq!(seconds(value.clone()), Some(expected), "{value}");
        }
        for value in [
            json!(0),
            json!(-1),
            json!(0.5),
            json!("0"),
            json!(""),
            json!("soon"),
            json!("1:2:3:4"),
            json!("P"),
            json!("PT"),
            json!("P1M"),
            json!("P1"),
            json!("1,5"),
            json!(null),
            json!(true),
            json!([1]),
            json!("\u{e4}"),
            json!("P\u{e4}"),
        ] {
            assert_eq!(seconds(value.clone()), None, "{value}");
        }
    }
}
