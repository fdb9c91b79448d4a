//! Parses as much of `PromQL` as is needed to find the metrics and labels in an expression. `promtool` checks whether it is
//! valid.

use std::collections::BTreeSet;

/// Words between operands.
const OPERATORS: [&str; 6] = ["and", "or", "unless", "offset", "bool", "atan2"];
/// Aggregations and modifiers; a list of labels may follow.
const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const AGGREGATIONS: [&str; 12] = [
    "sum",
    "min",
    "max",
    "avg",
    "group",
    "stddev",
    "stdvar",
    "count",
    "count_values",
    "bottomk",
    "topk",
    "quantile",
];

/// A metric and the labels in its matchers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    pub metric: String,
    pub labels: Vec<String>,
}

/// The names in an expression.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub selectors: Vec<Selector>,
    /// In `by (…)`, `on (…)` and the like.
    pub grouped: BTreeSet<String>,
    /// Those of them that an answer keeps: `without (…)` and `ignoring (…)` name what it has no more.
    pub kept: BTreeSet<String>,
    /// Numbers, without the durations of windows and offsets.
    pub numbers: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Number(String),
    Text,
    Sign(char),
}

fn tokens(expression: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = expression.chars().peekable();
    while let Some(&first) = rest.peek() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
        let mut take = |belongs: &dyn Fn(char) -> bool| {
            let mut taken = String::new();
            while let Some(c) = rest.next_if(|c| belongs(*c)) {
                taken.push(c);
            }
            taken
        };
        match first {
            '"' | '\'' | '`' => {
                rest.next();
                while let Some(c) = rest.next() {
                    match c {
                        '\\' => drop(rest.next()),
                        c if c == first => break,
                        _ => {}
                    }
                }
                tokens.push(Token::Text);
            }
            c if c.is_ascii_digit() => tokens.push(Token::Number(take(&|c| is_word(c) || c == '.'))),
            c if is_word(c) => tokens.push(Token::Word(take(&is_word))),
            c => {
                rest.next();
                if !c.is_whitespace() {
                    tokens.push(Token::Sign(c));
                }
            }
        }
    }
    tokens
}

/// The words up to the closing bracket, which must follow an opening one.
fn words(rest: &mut std::iter::Peekable<std::vec::IntoIter<Token>>, close: char) -> Vec<String> {
    let mut words = Vec::new();
    for token in rest.by_ref() {
        match token {
            Token::Sign(sign) if sign == close => break,
            Token::Word(word) => words.push(word),
            _ => {}
        }
    }
    words
}

/// The names in `expression`.
pub fn names(expression: &str) -> Names {
    let mut names = Names::default();
    let mut rest = tokens(expression).into_iter().peekable();
    while let Some(token) = rest.next() {
        match token {
            // The window of a range or a subquery.
            Token::Sign('[') => drop(words(&mut rest, ']')),
            Token::Word(word) if GROUPINGS.contains(&word.as_str()) => {
                if rest.next_if_eq(&Token::Sign('(')).is_some() {
                    let labels = words(&mut rest, ')');
                    if !["without", "ignoring"].contains(&word.as_str()) {
                        names.kept.extend(labels.iter().cloned());
                    }
                    names.grouped.extend(labels);
                }
            }
            Token::Word(word) if word == "offset" => drop(rest.next()),
            Token::Word(word)
                if OPERATORS.contains(&word.as_str())
                    || AGGREGATIONS.contains(&word.as_str())
                    || rest.peek() == Some(&Token::Sign('(')) => {}
            Token::Word(metric) => {
                let labels = if rest.next_if_eq(&Token::Sign('{')).is_some() {
                    words(&mut rest, '}')
                } else {
                    Vec::new()
                };
                names.selectors.push(Selector { metric, labels });
            }
            Token::Number(number) => names.numbers.push(number),
            Token::Text | Token::Sign(_) => {}
        }
    }
    names
}
