//! Compression of response bodies, as far as `Accept-Encoding` allows it.

use crate::exposition::parse_quality;

/// Whether an `Accept-Encoding` header lets us answer with gzip. Its own entry outweighs `*`.
pub(super) fn accepts_gzip(accept_encoding: Option<&str>) -> bool {
    let mut any = false;
    for entry in accept_encoding.unwrap_or_default().split(',') {
        let mut parts = entry.split(';').map(str::trim);
        let coding = parts.next().unwrap_or_default();
        let quality = parts
            .filter_map(|part| part.split_once('='))
            .find(|(key, _)| key.trim().eq_ignore_ascii_case("q"))
            .map_or(Some(1000), |(_, value)| parse_quality(value.trim()));
        let accepted = quality.is_some_and(|quality| quality > 0);
        if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
            return accepted;
        }
        if coding == "*" {
            any = accepted;
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn honours_the_header() {
        for (header, expected) in [
            (None, false),
            (Some(""), false),
            (Some("gzip"), true),
            (Some("GZIP"), true),
            (Some("deflate, gzip;q=0.5, br"), true),
            (Some("gzip;q=0"), false),
            (Some("gzip; q=0.000, *"), false),
            (Some("*"), true),
            (Some("*;q=0"), false),
            (Some("gzip;q=1.0, *;q=0"), true),
            (Some("identity"), false),
            (Some("gzip;q=x"), false),
        ] {
            assert_eq!(accepts_gzip(header), expected, "{header:?}");
        }
    }
}
