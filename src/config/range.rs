//! Ranges of addresses, as `10.0.0.0/8`, `fd00::/8` or one address alone.

use std::fmt;
use std::net::IpAddr;

/// A range of addresses. Prints as it is written.
///
/// ```
/// use sluicegate::config::{Config, process_env};
///
/// let config = Config::from_json(r#"{ "server": { "trusted_proxies": ["10.0.0.0/8"] } }"#, &process_env)?;
/// let range = config.server.trusted_proxies[0];
/// assert!(range.contains("10.1.2.3".parse()?) && range.contains("::ffff:10.1.2.3".parse()?));
/// assert!(!range.contains("192.0.2.1".parse()?));
/// assert_eq!(range.to_string(), "10.0.0.0/8");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    base: IpAddr,
    prefix: u32,
}

impl AddressRange {
    /// Reads a range.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().ok()?;
        // A range of mapped addresses would never fit: what it is asked about is in its own form.
        let base = if base.to_canonical() == base { base } else { return None };
        let most = bits(base).1;
        let prefix = match prefix {
            None => most,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
        };
        let range = Self { base, prefix };
        // Bits beyond the prefix say that something else was meant.
        (prefix <= most && masked(base, prefix) == bits(base).0).then_some(range)
    }

    /// Whether `address` is within it; a v4 address in v6 form counts as what it is.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.base.is_ipv4() && masked(address, self.prefix) == bits(self.base).0
    }
}

/// An address as a number in the upper bits, and how many bits there are.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

fn masked(address: IpAddr, prefix: u32) -> u128 {
    bits(address).0 & u128::MAX.checked_shl(128 - prefix).unwrap_or(0)
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.base)?;
        if self.prefix < bits(self.base).1 { write!(f, "/{}", self.prefix) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_within_or_not() {
        for (range, within, without) in [
            (
                "10.0.0.0/8",
                &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"][..],
                &["11.0.0.0", "9.255.255.255", "::a"][..],
            ),
            ("192.0.2.128/25", &["192.0.2.128", "192.0.2.255"], &["192.0.2.127"]),
            ("192.0.2.7", &["192.0.2.7"], &["192.0.2.6", "192.0.2.8"]),
            ("0.0.0.0/0", &["1.2.3.4"], &["::1"]),
            ("fd00::/8", &["fd00::1", "fdff::"], &["fe00::", "10.0.0.1"]),
            ("::1", &["::1"], &["::2", "127.0.0.1"]),
            ("::/0", &["2001:db8::1"], &["1.2.3.4"]),
        ] {
            let parsed = AddressRange::parse(range).unwrap_or_else(|| panic!("{range}"));
            assert_eq!(parsed.to_string(), range);
            for address in within {
                assert!(parsed.contains(address.parse().expect("an address")), "{address} in {range}");
            }
            for address in without {
                assert!(!parsed.contains(address.parse().expect("an address")), "{address} not in {range}");
            }
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for wrong in [
            "",
            "localhost",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "10.0.0",
            "::1/129",
            "fd00::1/8",
            "::ffff:10.0.0.0/104",
            "10.0.0.0/8 ",
            "1.2.3.4:80",
            "[::1]",
            "fe80::1%eth0",
            "*",
        ] {
            assert_eq!(AddressRange::parse(wrong), None, "{wrong:?}");
        }
    }
}
