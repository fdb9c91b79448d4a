//! Lexemes → [`Script`]: probes, macros, statements. Expressions are in `operand`.

use super::super::remark::Remark;
use super::{
    cursor::{Cursor, Lexeme, is_name_part},
    script::{Action, Script, ScriptMacro, Step, StepKind, Term, TermKind, assigned},
};
use std::sync::Arc;
use tapster_ebpf::diagnostic::{Diagnostic, SourceFile, Span, Spanned};

/// Deepest nesting of statements and expressions.
const MAX_DEPTH: usize = 48;
/// Most statements and parts of expressions.
const MAX_NODES: usize = 100_000;
/// Kinds of attach points that have a path, in which `/` is no filter.
const WITH_PATH: [&str; 8] =
    ["uprobe", "uretprobe", "usdt", "u", "ur", "U", "uretprobe_multi", "uprobe_multi"];

/// What a script is parsed with.
pub(super) struct ScriptParser<'t> {
    pub(super) cursor: Cursor<'t>,
    pub(super) remarks: Vec<Remark>,
    /// Whether a `/` before `{` ends the expression.
    pub(super) is_filter: bool,
    depth: usize,
    nodes: usize,
}

type OrMistake<T> = Result<T, Diagnostic>;

/// Parses a script whose text is `text`, with the places of `file`.
pub(super) fn parse(file: &Arc<SourceFile>, text: &str) -> OrMistake<(Script, Vec<Remark>)> {
    let mut parser = ScriptParser::new(file, text);
    let script = parser.script()?;
    Ok((script, parser.remarks))
}

/// Parses an expression alone, as the value of a `#define` is one.
pub(super) fn parse_term(file: &Arc<SourceFile>, text: &str) -> Option<Term> {
    let mut parser = ScriptParser::new(file, text);
    let term = parser.term().ok()?;
    matches!(parser.cursor.peek(), Ok((Lexeme::End, _))).then_some(term)
}

impl<'t> ScriptParser<'t> {
    fn new(file: &'t Arc<SourceFile>, text: &'t str) -> Self {
        let cursor = Cursor::new(file, text);
        Self { cursor, remarks: Vec::new(), is_filter: false, depth: 0, nodes: 0 }
    }

    /// Runs a part of the parser one level deeper, within the limits.
    pub(super) fn deeper<T>(&mut self, part: impl FnOnce(&mut Self) -> OrMistake<T>) -> OrMistake<T> {
        self.nodes += 1;
        if self.depth == MAX_DEPTH || self.nodes > MAX_NODES {
            let (_, span) = self.cursor.peek()?;
            let message = if self.depth == MAX_DEPTH {
                format!("more than {MAX_DEPTH} levels of nesting")
            } else {
                format!("more than {MAX_NODES} statements and expressions")
            };
            return Err(self.cursor.error(span, message).hint("split the script"));
        }
        self.depth += 1;
        let result = part(self);
        self.depth -= 1;
        result
    }

    /// Whether the next lexeme is this sign.
    pub(super) fn is_next(&self, sign: &str) -> OrMistake<bool> {
        Ok(matches!(self.cursor.peek()?.0, Lexeme::Sign(next) if next == sign))
    }

    /// Reads this sign if it is next.
    pub(super) fn takes(&mut self, sign: &str) -> OrMistake<bool> {
        let is_next = self.is_next(sign)?;
        if is_next {
            self.cursor.take()?;
        }
        Ok(is_next)
    }

    /// Reads this sign, which must be next; returns its place.
    pub(super) fn expects(&mut self, sign: &str, after: &str) -> OrMistake<Span> {
        let (lexeme, span) = self.cursor.take()?;
        match lexeme {
            Lexeme::Sign(next) if next == sign => Ok(span),
            other => Err(self.unexpected(&other, span, &format!("`{sign}` after {after}"))),
        }
    }

    pub(super) fn unexpected(&self, lexeme: &Lexeme, span: Span, wanted: &str) -> Diagnostic {
        let found = match lexeme {
            Lexeme::End => "the end of the file".to_owned(),
            Lexeme::Name(name) => format!("`{name}`"),
            Lexeme::Variable(name) | Lexeme::Parameter(name) => format!("`${name}`"),
            Lexeme::Map(name) => format!("`@{name}`"),
            Lexeme::Number(number) => format!("`{number}`"),
            Lexeme::Text(_) => "a text".to_owned(),
            Lexeme::Sign(sign) => format!("`{sign}`"),
        };
        self.cursor.error(span, format!("expected {wanted}, found {found}"))
    }

    fn script(&mut self) -> OrMistake<Script> {
        let mut script = Script::default();
        loop {
            self.cursor.skip_blanks()?;
            let begin = self.cursor.at;
            if self.cursor.rest().is_empty() {
                return Ok(script);
            }
            let word: String = self.cursor.rest().chars().take_while(|c| is_name_part(*c)).collect();
            let behind = self.cursor.rest()[word.len()..].trim_start();
            match word.as_str() {
                "config" if behind.starts_with('=') => {
                    let text = self.braces()?;
                    let is_lenient = |word: &str| text.contains(word);
                    script.passes_missing |= is_lenient("missing_probes")
                        && !text.replace(' ', "").contains("missing_probes=error");
                    self.takes(";")?;
                }
                "macro" | "fn" | "subprog" if behind.starts_with(|c: char| is_name_part(c)) => {
                    let read = self.macro_definition()?;
                    if word == "macro" {
                        script.macros.push(read);
                    } else {
                        let said =
                            "functions of a script's own are not carried over: write out what it computes";
                        self.remarks.push(Remark::loss(begin..self.cursor.at, said));
                    }
                }
                "struct" | "union" | "enum" if behind.starts_with(|c: char| is_name_part(c)) => {
                    self.braces()?;
                    self.takes(";")?;
                    let said = format!("types come from the kernel's BTF, so this {word} is not needed");
                    self.remarks.push(Remark::note(begin..self.cursor.at, said));
                }
                "let" | "import" | "typedef" if !behind.starts_with(':') => {
                    while !matches!(self.cursor.take()?.0, Lexeme::Sign(";") | Lexeme::End) {}
                    let said = match word.as_str() {
                        "let" => "sizes of maps are `max_series` and `max_inflight` of a probe",
                        "import" => "other files are not read: only what stands in this one is carried over",
                        _ => "types come from the kernel's BTF",
                    };
                    let span = begin..self.cursor.at;
                    let is_loss = word == "import";
                    self.remarks.push(if is_loss {
                        Remark::loss(span, said)
                    } else {
                        Remark::note(span, said)
                    });
                }
                _ => {
                    let action = self.action()?;
                    script.actions.push(action);
                }
            }
        }
    }

    /// Passes what stands before and within the next braces; returns the text in them.
    fn braces(&mut self) -> OrMistake<String> {
        let mut depth = 0;
        let mut begin = self.cursor.at;
        loop {
            match self.cursor.take()? {
                (Lexeme::Sign("{"), span) => {
                    if depth == 0 {
                        begin = span.end;
                    }
                    depth += 1;
                }
                (Lexeme::Sign("}"), span) if depth <= 1 => {
                    let text = self.cursor.clone();
                    let mut inside = text;
                    inside.at = begin;
                    let length = span.start.saturating_sub(begin);
                    return Ok(inside.rest().get(..length).unwrap_or("").to_owned());
                }
                (Lexeme::Sign("}"), _) => depth -= 1,
                (Lexeme::Sign(";"), _) if depth == 0 => return Ok(String::new()),
                (Lexeme::End, span) => return Err(self.unexpected(&Lexeme::End, span, "`}`")),
                _ => {}
            }
        }
    }

    fn macro_definition(&mut self) -> OrMistake<ScriptMacro> {
        self.cursor.take()?;
        let name = match self.cursor.take()? {
            (Lexeme::Name(name), _) => name,
            (other, span) => return Err(self.unexpected(&other, span, "the name of a macro")),
        };
        self.expects("(", "the name of a macro")?;
        let mut parameters = Vec::new();
        loop {
            match self.cursor.take()? {
                (Lexeme::Sign(")"), _) => break,
                (Lexeme::Name(name), _) => parameters.push(name),
                (Lexeme::Variable(name), _) => parameters.push(format!("${name}")),
                (Lexeme::Map(name), _) => parameters.push(format!("@{name}")),
                // Types of parameters, and commas.
                (Lexeme::Sign(sign), _) if !matches!(sign, "{" | "}") => {}
                (other, span) => return Err(self.unexpected(&other, span, "a parameter or `)`")),
            }
        }
        // A type before the body, as functions have one.
        while !self.is_next("{")? {
            if let (Lexeme::End, span) = self.cursor.take()? {
                return Err(self.unexpected(&Lexeme::End, span, "`{`"));
            }
        }
        let body = self.block()?;
        Ok(ScriptMacro { name, parameters, body })
    }

    fn action(&mut self) -> OrMistake<Action> {
        let points = self.points()?;
        let begin = points.first().map_or(self.cursor.at, |point| point.span.start);
        let filter = if self.takes("/")? {
            self.is_filter = true;
            let filter = self.term();
            self.is_filter = false;
            let filter = filter?;
            self.expects("/", "a filter")?;
            Some(filter)
        } else {
            None
        };
        let body = self.block()?;
        Ok(Action { points, filter, body, span: begin..self.cursor.at })
    }

    /// Attach points, separated by commas: these are not made of lexemes.
    fn points(&mut self) -> OrMistake<Vec<Spanned<String>>> {
        let mut points = Vec::new();
        loop {
            self.cursor.skip_blanks()?;
            let begin = self.cursor.at;
            let rest = self.cursor.rest();
            let kind: String = rest.chars().take_while(|c| is_name_part(*c)).collect();
            let has_path = WITH_PATH.contains(&kind.as_str());
            let mut quote = None;
            let end = rest
                .char_indices()
                .find(|(_, c)| match (quote, c) {
                    (None, '"') => {
                        quote = Some('"');
                        false
                    }
                    (Some(_), '"') => {
                        quote = None;
                        false
                    }
                    (Some(_), c) => *c == '\n',
                    (None, '/') => !has_path,
                    (None, c) => c.is_whitespace() || matches!(c, ',' | '{' | '}' | ';'),
                })
                .map_or(rest.len(), |(at, _)| at);
            let text = rest[..end].replace('"', "");
            self.cursor.at += end;
            let span = begin..self.cursor.at;
            if text.is_empty() {
                let (lexeme, span) = self.cursor.peek()?;
                let wanted = "a probe such as `kprobe:vfs_read { … }`";
                return Err(self.unexpected(&lexeme, span, wanted));
            }
            points.push(Spanned::new(text, span));
            // A comma may stand behind the last one.
            if !self.takes(",")? || self.is_next("{")? {
                return Ok(points);
            }
        }
    }

    fn block(&mut self) -> OrMistake<Vec<Step>> {
        self.expects("{", "this")?;
        let mut steps = Vec::new();
        loop {
            if self.takes(";")? {
                continue;
            }
            if self.takes("}")? {
                return Ok(steps);
            }
            let begin = self.cursor.peek()?.1.start;
            let kind = self.deeper(Self::step)?;
            let end = self.cursor.at.max(begin);
            steps.push(Step { kind, span: begin..end });
        }
    }

    fn step(&mut self) -> OrMistake<StepKind> {
        let (lexeme, _) = self.cursor.peek()?;
        let Lexeme::Name(word) = &lexeme else {
            if lexeme == Lexeme::Sign("{") {
                return Ok(StepKind::Block(self.block()?));
            }
            return self.simple();
        };
        match word.as_str() {
            "if" => {
                self.cursor.take()?;
                let condition = self.term()?;
                let yes = self.block()?;
                let no = if matches!(&self.cursor.peek()?.0, Lexeme::Name(word) if word == "else") {
                    self.cursor.take()?;
                    if self.is_next("{")? {
                        self.block()?
                    } else {
                        let begin = self.cursor.peek()?.1.start;
                        let kind = self.deeper(Self::step)?;
                        vec![Step { kind, span: begin..self.cursor.at }]
                    }
                } else {
                    Vec::new()
                };
                Ok(StepKind::If { condition, yes, no })
            }
            "for" | "while" | "unroll" => {
                let word = word.clone();
                while !self.is_next("{")? {
                    if let (Lexeme::End, span) = self.cursor.take()? {
                        return Err(self.unexpected(&Lexeme::End, span, "`{`"));
                    }
                }
                let changes = assigned(&self.block()?);
                Ok(StepKind::Loop { word, changes })
            }
            "return" | "break" | "continue" => {
                self.cursor.take()?;
                if !self.is_next(";")? && !self.is_next("}")? {
                    self.term()?;
                }
                Ok(StepKind::Leave)
            }
            "let" => {
                self.cursor.take()?;
                let target = self.operand()?;
                if self.takes(":")? {
                    while !self.is_next("=")? && !self.is_next(";")? && !self.is_next("}")? {
                        if let (Lexeme::End, span) = self.cursor.take()? {
                            return Err(self.unexpected(&Lexeme::End, span, "`;`"));
                        }
                    }
                }
                if self.takes("=")? {
                    let value = self.term()?;
                    self.ends()?;
                    Ok(StepKind::Set { target, operator: None, value })
                } else {
                    self.ends()?;
                    Ok(StepKind::Nothing)
                }
            }
            _ => self.simple(),
        }
    }

    /// An assignment, a step by one, or a value such as a call.
    fn simple(&mut self) -> OrMistake<StepKind> {
        for sign in ["++", "--"] {
            if self.takes(sign)? {
                let target = self.operand()?;
                self.ends()?;
                return Ok(Self::by_one(target, sign));
            }
        }
        let target = self.term()?;
        let (lexeme, span) = self.cursor.peek()?;
        let Lexeme::Sign(sign) = lexeme else {
            self.ends()?;
            return Ok(StepKind::Value(target));
        };
        if let "++" | "--" = sign {
            self.cursor.take()?;
            self.ends()?;
            return Ok(Self::by_one(target, sign));
        }
        let operator = match sign {
            "=" => None,
            "+=" => Some("+"),
            "-=" => Some("-"),
            "*=" => Some("*"),
            "/=" => Some("/"),
            "%=" => Some("%"),
            "&=" => Some("&"),
            "|=" => Some("|"),
            "^=" => Some("^"),
            "<<=" => Some("<<"),
            ">>=" => Some(">>"),
            _ => {
                self.ends()?;
                return Ok(StepKind::Value(target));
            }
        };
        if !matches!(target.kind, TermKind::Map { .. } | TermKind::Variable(_) | TermKind::Name(_)) {
            return Err(self.cursor.error(span, "only `@maps` and `$variables` can be assigned"));
        }
        self.cursor.take()?;
        let value = self.term()?;
        self.ends()?;
        Ok(StepKind::Set { target, operator, value })
    }

    fn by_one(target: Term, sign: &str) -> StepKind {
        let value = Term::new(TermKind::Number(1), target.span.clone());
        StepKind::Set { target, operator: Some(if sign == "++" { "+" } else { "-" }), value }
    }

    /// A statement ends with `;`, or the block does.
    fn ends(&mut self) -> OrMistake<()> {
        if self.takes(";")? || self.is_next("}")? {
            return Ok(());
        }
        let (lexeme, span) = self.cursor.peek()?;
        Err(self.unexpected(&lexeme, span, "`;` after a statement"))
    }
}
