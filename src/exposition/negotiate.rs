//! Content negotiation: the format that an `Accept` header requests. Knows the headers of Prometheus, its agents and
//! browsers, and answers everything else with the text format instead of a refusal.

use super::Format;

/// Quality of a media range in thousandths, as HTTP defines it.
type Quality = u16;

impl Format {
    /// The offered format of the highest quality, the first of them if several share it. Protobuf has to be named
    /// in full; `*/*`, an absent header and one that names nothing we know give [`Format::Text`].
    pub fn negotiate(accept: Option<&str>) -> Self {
        let mut best: Option<(Quality, Self)> = None;
        for range in accept.unwrap_or_default().split(',') {
            if let Some((quality, format)) = parse_range(range)
                && quality > best.map_or(0, |(quality, _)| quality)
            {
                best = Some((quality, format));
            }
        }
        best.map_or(Self::Text, |(_, format)| format)
    }
}

/// The format of a media range and its quality. Ignores parameters that do not change the bytes we write,
/// such as `escaping` (all our names are plain ASCII) and `charset`.
fn parse_range(range: &str) -> Option<(Quality, Format)> {
    let mut parts = range.split(';').map(str::trim);
    let media_type = parts.next()?.to_ascii_lowercase();
    let (mut quality, mut version, mut proto, mut encoding) = (1000, None, None, None);
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        let value = value.trim().trim_matches('"');
        match key.trim().to_ascii_lowercase().as_str() {
            "q" => quality = parse_quality(value)?,
            "version" => version = Some(value),
            "proto" => proto = Some(value),
            "encoding" => encoding = Some(value),
            _ => {}
        }
    }
    let format = match media_type.as_str() {
        "application/openmetrics-text" if matches!(version, None | Some("1.0.0" | "0.0.1")) => {
            Format::OpenMetrics
        }
        "application/vnd.google.protobuf"
            if proto == Some("io.prometheus.client.MetricFamily") && encoding == Some("delimited") =>
        {
            Format::Protobuf
        }
        "text/plain" | "text/*" | "*/*" => Format::Text,
        _ => return None,
    };
    Some((quality, format))
}

/// `0`, `0.5`, `1.000`: at most three decimals.
pub(crate) fn parse_quality(value: &str) -> Option<Quality> {
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths = format!("{decimals:0<3}").parse::<Quality>().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_the_format_of_the_highest_quality() {
        let protobuf =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;\
                          version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                            application/openmetrics-text;version=0.0.1;q=0.4,\
                            text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                            text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        let native = format!("{protobuf};q=0.6,{prometheus}");
        let native_3 = format!("{protobuf};escaping=allow-utf-8;q=0.6,{prometheus_3}");
        let table: &[(Option<&str>, Format)] = &[
            (None, Format::Text),
            (Some(""), Format::Text),
            (Some("*/*"), Format::Text),
            (Some("text/plain"), Format::Text),
            (Some("text/plain; version=0.0.4; escaping=underscores"), Format::Text),
            (Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), Format::Text),
            (Some("application/json"), Format::Text),
            (Some(prometheus), Format::OpenMetrics),
            (Some(prometheus_3), Format::OpenMetrics),
            (Some(&native), Format::Protobuf),
            (Some(&native_3), Format::Protobuf),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (Some("Application/OpenMetrics-Text; Version=\"1.0.0\""), Format::OpenMetrics),
            (Some("application/openmetrics-text;version=2.0.0,text/plain;q=0.1"), Format::Text),
            (Some("application/openmetrics-text;q=0"), Format::Text),
            (Some("application/openmetrics-text;q=2,text/plain"), Format::Text),
            (Some("application/openmetrics-text;q=0.1,text/plain;q=0.09"), Format::OpenMetrics),
            (Some("application/openmetrics-text,text/plain"), Format::OpenMetrics),
            (Some("text/plain,application/openmetrics-text"), Format::Text),
            (Some(protobuf), Format::Protobuf),
            (Some("application/vnd.google.protobuf"), Format::Text),
            (Some("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily"), Format::Text),
            (
                Some("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text"),
                Format::Text,
            ),
            (Some(",;=,q;;q=,\"\u{fffd}"), Format::Text),
        ];
        for (accept, format) in table {
            assert_eq!(Format::negotiate(*accept), *format, "{accept:?}");
        }
    }

    #[test]
    fn reads_qualities_as_http_defines_them() {
        for (value, quality) in
            [("0", Some(0)), ("0.5", Some(500)), ("0.001", Some(1)), ("1", Some(1000)), ("1.0", Some(1000))]
        {
            assert_eq!(parse_quality(value), quality, "{value}");
        }
        for value in ["", "-1", "1.1", "0.1234", "0.+1", "a", "2"] {
            assert_eq!(parse_quality(value), None, "{value}");
        }
    }
}
