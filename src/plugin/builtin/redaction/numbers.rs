//! Numbers that belong to somebody: cards, accounts, telephones and the like, told from other numbers by their check digits
//! and shapes.
//!
//! Pure. Each `*_at` looks at one place of a text, goes on from there by a bounded number of bytes, and gives where a number
//! that begins there ends: a text is looked through in time linear in its length, whatever stands in it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// Looks through `text` from `from` on with one of the functions below.
pub(super) fn scan(
    text: &str,
    from: usize,
    at: fn(&[u8], usize) -> Option<usize>,
    mut found: impl FnMut(Range<usize>),
) {
    let bytes = text.as_bytes();
    let mut next = from;
    while next < bytes.len() {
        match at(bytes, next) {
            Some(end) => {
                found(next..end);
                next = end;
            }
            None => next += 1,
        }
    }
}

fn is_digit(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(u8::is_ascii_digit)
}

/// Whether nothing stands before `at` that a number belongs to: no letter, no digit, no decimal point.
fn begins(text: &[u8], at: usize) -> bool {
    let Some(before) = at.checked_sub(1).map(|before| text[before]) else { return true };
    let is_fraction = before == b'.' && at >= 2 && text[at - 2].is_ascii_digit();
    !before.is_ascii_alphanumeric() && before != b'_' && !is_fraction
}

/// Whether nothing of the kind stands behind `end`.
fn ends(text: &[u8], end: usize) -> bool {
    match text.get(end) {
        None => true,
        Some(b'.') => !is_digit(text, end + 1),
        Some(after) => !after.is_ascii_alphanumeric() && *after != b'_',
    }
}

/// A card: 13 to 19 digits whose last one is right (ISO/IEC 7812, Luhn) and whose first ones are a network's, in groups of
/// three at least.
pub(super) fn card_at(text: &[u8], at: usize) -> Option<usize> {
    const MOST: usize = 19;
    if !matches!(text[at], b'2'..=b'6') || !begins(text, at) {
        return None;
    }
    let (mut digits, mut next, mut group, mut best) = ([0u8; MOST], at, 0, None);
    let mut count = 0;
    loop {
        if count == MOST {
            break;
        }
        digits[count] = text[next] - b'0';
        (count, group, next) = (count + 1, group + 1, next + 1);
        if is_digit(text, next) {
            continue;
        }
        if group < 3 {
            break;
        }
        if ends(text, next) && is_card(&digits[..count]) {
            best = Some(next);
        }
        if !matches!(text.get(next), Some(b' ' | b'-')) || !is_digit(text, next + 1) {
            break;
        }
        (next, group) = (next + 1, 0);
    }
    best
}

fn is_card(digits: &[u8]) -> bool {
    let is_a_networks = match digits.len() {
        13 => digits[0] == 4,
        14 => digits[0] == 3 && matches!(digits[1], 0 | 6 | 8 | 9),
        15 => digits[0] == 3 && matches!(digits[1], 4 | 7),
        16..=19 => true,
        _ => false,
    };
    let luhn = |(nth, digit): (usize, &u8)| match (nth % 2, *digit) {
        (0, digit) => digit,
        (_, digit) if digit > 4 => digit * 2 - 9,
        (_, digit) => digit * 2,
    };
    is_a_networks && digits.iter().rev().enumerate().map(luhn).map(u32::from).sum::<u32>().is_multiple_of(10)
}

/// How long each country's account numbers are: the registry of ISO 13616.
const IBANS: &str = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24FI18\
    FK18FO18FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27MD24\
    ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28TL23\
    TN24TR26UA29VA22VG24XK20YE30";

fn iban_length(country: &[u8]) -> Option<usize> {
    let known = IBANS.as_bytes().chunks_exact(4).find(|known| known[..2].eq_ignore_ascii_case(country))?;
    Some(usize::from(known[2] - b'0') * 10 + usize::from(known[3] - b'0'))
}

/// A bank account: as long as its country's are, in groups or not, with the right check digits (ISO 7064, mod 97).
pub(super) fn iban_at(text: &[u8], at: usize) -> Option<usize> {
    if !text[at].is_ascii_alphabetic() || !begins(text, at) || !is_digit(text, at + 2) || !is_digit(text, at + 3) {
        return None;
    }
    let length = iban_length(&text[at..at + 2])?;
    let (mut letters, mut next) = (Vec::with_capacity(length), at);
    while letters.len() < length {
        match text.get(next)? {
            letter if letter.is_ascii_alphanumeric() => letters.push(letter.to_ascii_uppercase()),
            b' ' | b'-' if next > at && text[next - 1].is_ascii_alphanumeric() => {}
            _ => return None,
        }
        next += 1;
    }
    letters.rotate_left(4);
    let rest = letters.iter().fold(0u32, |rest, letter| match letter {
        b'0'..=b'9' => (rest * 10 + u32::from(letter - b'0')) % 97,
        letter => (rest * 100 + u32::from(letter - b'A') + 10) % 97,
    });
    (rest == 1 && ends(text, next)).then_some(next)
}

/// A telephone: `+` or `00` and a country, 8 to 15 digits in all (E.164), however they are grouped; or ten digits as North
/// America writes them, `(415) 555-0132` or `415-555-0132`.
pub(super) fn phone_at(text: &[u8], at: usize) -> Option<usize> {
    let is_national = text[at] == b'(' || text[at].is_ascii_digit();
    if !(is_national || text[at] == b'+') || !begins(text, at) || (at > 0 && matches!(text[at - 1], b'+' | b'-')) {
        return None;
    }
    match text[at..] {
        [b'+', b'1'..=b'9', ..] => grouped(text, at + 1, 0),
        // Without a group it is any number that begins with zeros.
        [b'0', b'0', b'1'..=b'9', ..] => grouped(text, at + 2, 1),
        _ => north_american(text, at),
    }
}

fn grouped(text: &[u8], from: usize, least_groups: usize) -> Option<usize> {
    let (mut next, mut digits, mut groups, mut best) = (from, 0, 0, None);
    loop {
        let mut digit = next;
        if digit > from {
            digit += usize::from(matches!(text.get(digit), Some(b' ' | b'.' | b'/' | b'-')));
            digit += usize::from(text.get(digit) == Some(&b'('));
        }
        if !is_digit(text, digit) || digits == 15 {
            return best;
        }
        groups += usize::from(digit > next);
        digits += 1;
        next = digit + 1;
        let is_closed = text.get(next) == Some(&b')');
        if digits >= 8 && groups >= least_groups && ends(text, next) && !is_closed {
            best = Some(next);
        }
        next += usize::from(is_closed);
    }
}

fn north_american(text: &[u8], at: usize) -> Option<usize> {
    let shaped = |shape: &[u8]| {
        let end = at + shape.len();
        let is = |(found, wanted): (&u8, &u8)| match wanted {
            b'd' => found.is_ascii_digit(),
            b'n' => matches!(found, b'2'..=b'9'),
            wanted => found == wanted,
        };
        let matches = text.get(at..end)?.iter().zip(shape).all(is);
        (matches && ends(text, end) && text.get(end) != Some(&b'-')).then_some(end)
    };
    let shapes: [&[u8]; 4] = [b"(ndd) ndd-dddd", b"(ndd)ndd-dddd", b"ndd-ndd-dddd", b"ndd.ndd.dddd"];
    shapes.into_iter().find_map(shaped)
}

/// A social security number of the United States, with its dashes, of those that are given out.
pub(super) fn ssn_at(text: &[u8], at: usize) -> Option<usize> {
    let number = text.get(at..at + 11)?;
    let is_shaped = number.iter().enumerate().all(|(nth, byte)| match nth {
        3 | 6 => *byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let is_given = &number[..3] != b"000" && &number[..3] != b"666" && number[0] != b'9';
    let is_given = is_given && &number[4..6] != b"00" && &number[7..] != b"0000";
    let is_alone = begins(text, at) && ends(text, at + 11);
    let is_alone = is_alone && (at == 0 || text[at - 1] != b'-') && text.get(at + 11) != Some(&b'-');
    (is_shaped && is_given && is_alone).then_some(at + 11)
}

/// An address of the Internet Protocol, of either version.
pub(super) fn address_at(text: &[u8], at: usize) -> Option<usize> {
    /// The longest that there is: six groups and a dotted address.
    const MOST: usize = 45;
    let is_part = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    let is_inner = at > 0 && (is_part(&text[at - 1]) || !begins(text, at));
    if is_inner || !is_part(&text[at]) {
        return None;
    }
    let run = text[at..].iter().take(MOST + 2).take_while(|byte| is_part(byte)).count();
    // A port behind a dotted address, a full stop or a colon behind either is not of it.
    let dotted = text[at..at + run].iter().take_while(|byte| **byte != b':').count();
    let of = |length: usize| std::str::from_utf8(&text[at..at + length]).ok();
    let is_v4 = |length: &usize| of(*length).is_some_and(|text| text.parse::<Ipv4Addr>().is_ok());
    let is_v6 = |length: &usize| *length > 3 && of(*length).is_some_and(|text| text.parse::<Ipv6Addr>().is_ok());
    let v4 = [dotted, dotted.saturating_sub(1)].into_iter().find(is_v4);
    let v6 = || [run, run.saturating_sub(1)].into_iter().find(is_v6);
    v4.or_else(v6).map(|length| at + length).filter(|end| ends(text, *end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(at: fn(&[u8], usize) -> Option<usize>, text: &str) -> Vec<&str> {
        let mut found = Vec::new();
        scan(text, 0, at, |place| found.push(&text[place]));
        found
    }

    #[test]
    fn cards_are_told_by_their_check_digit_and_their_network() {
        for card in [
            "4111111111111111",
            "4111 1111 1111 1111",
            "5500-0055-5555-5559",
            "3782 822463 10005",
            "30569309025904",
            "6011000990139424",
            "4222222222222",
            "2223000048400011",
        ] {
            assert_eq!(found(card_at, &format!("card: {card}, thanks")), [card]);
            assert_eq!(found(card_at, &format!("{card}.")), [card]);
            assert_eq!(found(card_at, &format!("12 {card}")), [card], "another number before it");
        }
        for other in [
            "4111111111111112",
            "1700000000000",
            "x4111111111111111",
            "4111111111111111x",
            "0.4111111111111111",
            "41111111111111111111",
            "4111  1111 1111 1111",
            "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        ] {
            assert_eq!(found(card_at, other), [""; 0], "{other}");
        }
    }

    #[test]
    fn accounts_are_told_by_their_country_length_and_check_digits() {
        for iban in
            ["DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB29 NWBK 6016 1331 9268 19", "no9386011117947"]
        {
            assert_eq!(found(iban_at, &format!("to {iban} NOW")), [iban]);
        }
        for other in
            ["DE88370400440532013000", "DE8937040044053201300", "XX89370400440532013000", "ADE89370400440532013000"]
        {
            assert_eq!(found(iban_at, other), [""; 0], "{other}");
        }
    }

    #[test]
    fn telephones_are_told_by_how_they_are_written() {
        for phone in [
            "+49 30 1234567",
            "+14155550132",
            "+1 (415) 555-0132",
            "+44 (0)20 7946 0958",
            "0049 30 1234567",
            "+33.1.23.45.67.89",
            "(415) 555-0132",
            "415-555-0132",
        ] {
            assert_eq!(found(phone_at, &format!("call {phone}, or not")), [phone]);
        }
        for other in [
            "+1234567",
            "1 + 12",
            "a+4930123456789",
            "0049301234567",
            "115-555-0132",
            "415-555-01322",
            "2024-11-22",
            "12:30:45",
            "9-415-555-0132",
        ] {
            assert_eq!(found(phone_at, other), [""; 0], "{other}");
        }
    }

    #[test]
    fn addresses_and_social_security_numbers_are_told_from_what_looks_alike() {
        for address in ["192.168.0.1", "2001:db8::1", "::ffff:10.0.0.1", "fe80::"] {
            assert_eq!(found(address_at, &format!("from {address} to")), [address]);
        }
        assert_eq!(found(address_at, "see 10.0.0.1. Or 10.0.0.2:8080: "), ["10.0.0.1", "10.0.0.2"]);
        for other in ["1.2.3", "1.2.3.4.5", "256.1.1.1", "12:30:45", "a::b::c", "x10.0.0.1", "::", "v1.2.3.4"] {
            assert_eq!(found(address_at, other), [""; 0], "{other}");
        }
        assert_eq!(found(ssn_at, "it is 123-45-6789."), ["123-45-6789"]);
        for other in
            ["000-45-6789", "666-45-6789", "923-45-6789", "123-00-6789", "123-45-0000", "1123-45-6789", "123-45-67890"]
        {
            assert_eq!(found(ssn_at, other), [""; 0], "{other}");
        }
    }
}
