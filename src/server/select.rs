//! The query of a scrape: `?probe=NAME` or `?collect[]=NAME` for some probes only, `?exclude[]=NAME` for all
//! others, each as often as needed.

use crate::source::Selection;
use tapster_ebpf::diagnostic::nearest;

/// Reads a query; `words` can be named in it. The error is shown to the client.
pub(super) fn selection(query: Option<&str>, words: &[String]) -> Result<Selection, String> {
    let (mut only, mut except) = (Vec::new(), Vec::new());
    for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let value = value.into_owned();
        let list = match &*key {
            "probe" | "collect[]" => &mut only,
            "exclude[]" => &mut except,
            _ => {
                return Err(format!(
                    "`{key}` is not known here: name probes by `probe=` or `collect[]=`, or leave some out by `exclude[]=`\n"
                ));
            }
        };
        if !words.contains(&value) {
            let hint = nearest(&value, words.iter().map(String::as_str));
            let hint = hint.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return Err(format!("no probe `{value}` runs here{hint}\n"));
        }
        list.push(value);
    }
    // Equal queries become equal, however they are spelt, and so share a collection.
    for list in [&mut only, &mut except] {
        list.sort();
        list.dedup();
    }
    match (only.is_empty(), except.is_empty()) {
        (true, true) => Ok(Selection::All),
        (false, true) => Ok(Selection::Only(only)),
        (true, false) => Ok(Selection::Except(except)),
        (false, false) => Err("`collect[]=` and `exclude[]=` do not go together\n".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(query: &str) -> Result<Selection, String> {
        selection(Some(query), &["block".into(), "block_io".into(), "forks".into()])
    }

    #[test]
    fn queries() {
        assert_eq!(selection(None, &[]), Ok(Selection::All));
        assert_eq!(select(""), Ok(Selection::All));
        assert_eq!(select("probe=forks"), Ok(Selection::Only(vec!["forks".into()])));
        assert_eq!(
            select("collect[]=forks&collect%5B%5D=block%5Fio&probe=forks"),
            Ok(Selection::Only(vec!["block_io".into(), "forks".into()]))
        );
        assert_eq!(select("exclude[]=block"), Ok(Selection::Except(vec!["block".into()])));
        for (query, expected) in [
            ("probe=fork", "no probe `fork` runs here; did you mean `forks`?\n"),
            ("probe=", "no probe `` runs here\n"),
            ("probe=%zz", "no probe `%zz` runs here\n"),
            ("colect[]=forks", "`colect[]` is not known here"),
            ("probe=forks&exclude[]=block", "`collect[]=` and `exclude[]=` do not go together\n"),
        ] {
            let message = select(query).unwrap_err();
            assert!(message.starts_with(expected), "{query}: {message}");
        }
    }
}
