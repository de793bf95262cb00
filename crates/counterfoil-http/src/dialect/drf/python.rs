//! Python's own ideas of a text.

use super::fields::stripped;

/// The digit 0 of each script that Python counts in: Unicode's category Nd.
const ZEROS: [u32; 66] = [
    0x30, 0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xDE6, 0xE50, 0xED0,
    0xF20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50, 0xA620,
    0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10, 0x104A0, 0x10D30, 0x11066, 0x110F0, 0x11136, 0x111D0,
    0x112F0, 0x11450, 0x114D0, 0x11650, 0x116C0, 0x11730, 0x118E0, 0x11950, 0x11C50, 0x11D50, 0x11DA0, 0x16A60,
    0x16AC0, 0x16B50, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6, 0x1E140, 0x1E2F0, 0x1E950, 0x1FBF0,
];

/// Most digits that Python reads.
const MOST_DIGITS: usize = 4_300;

/// `int(text)`; what is beyond our reach is the nearest number that is not. `None` where it is none.
pub(crate) fn int(text: &str) -> Option<i128> {
    let text = stripped(text);
    let (negative, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let mut number: i128 = 0;
    let (mut count, mut after_digit) = (0, false);
    for character in digits.chars() {
        if character == '_' && after_digit {
            after_digit = false;
            continue;
        }
        number = number.saturating_mul(10).saturating_add(i128::from(digit(character)?));
        (count, after_digit) = (count + 1, true);
    }
    let is_number = after_digit && count <= MOST_DIGITS;
    is_number.then_some(if negative { -number } else { number })
}

fn digit(character: char) -> Option<u32> {
    let code = u32::from(character);
    ZEROS.iter().map(|zero| code.wrapping_sub(*zero)).find(|digit| *digit < 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each asked of Python 3.11.
    #[test]
    fn numbers_are_read_as_python_reads_them() {
        for (text, number) in [
            ("3", Some(3)),
            (" 3\n", Some(3)),
            ("+3", Some(3)),
            ("-1", Some(-1)),
            ("003", Some(3)),
            ("1_0", Some(10)),
            ("٣", Some(3)),
            ("𝟗", Some(9)),
            ("", None),
            (" ", None),
            ("_1", None),
            ("1_", None),
            ("1__0", None),
            ("+-1", None),
            ("1.5", None),
            ("0x3", None),
            ("²", None),
            ("abc", None),
        ] {
            assert_eq!(int(text), number, "{text:?}");
        }
        assert_eq!(int(&"9".repeat(4_300)), Some(i128::MAX));
        assert_eq!(int(&"9".repeat(4_301)), None);
    }
}
