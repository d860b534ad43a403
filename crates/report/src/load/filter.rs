//! Which records a report is about, as an expression: `method in (san, lora) and seed < 3`.
//!
//! A field is a short name (`suite`, `profile`, `backbone`, `method`, `label`, `dataset`, `group`, `seed`, `state`,
//! `accuracy`) or a path in the record's JSON (`protocol.epochs`, `cost.train_seconds`). Operators: `=`, `!=`, `<`,
//! `<=`, `>`, `>=`, `in (...)`, `and`, `or`, `not`, parentheses. Text in quotes may contain anything; its case does not
//! matter. A comparison with a field that a record lacks is false.

use serde_json::Value;

use crate::error::ReportError;
use crate::record::Record;

/// Short names of fields, and their paths.
const SHORT_NAMES: [(&str, &str); 7] = [
    ("backbone", "backbone.name"),
    ("method", "method.name"),
    ("label", "method.label"),
    ("dataset", "dataset.name"),
    ("group", "dataset.group"),
    ("accuracy", "metrics.accuracy"),
    ("device", "provenance.device"),
];

/// A parsed expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    text: String,
    root: Node,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Compare { path: String, operator: Operator, values: Vec<Value> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
}

impl Filter {
    /// Parses an expression.
    ///
    /// # Errors
    /// When it is malformed, with what was expected where.
    pub fn parse(text: &str) -> Result<Self, ReportError> {
        let fault = |reason: String| ReportError::Filter { expression: text.into(), reason };
        let mut parser = Parser { tokens: tokens(text).map_err(fault)?, next: 0, depth: 0 };
        let root = parser.any().map_err(fault)?;
        match parser.peek() {
            None => Ok(Self { text: text.into(), root }),
            Some(token) => Err(fault(format!("`{token}` is not expected there"))),
        }
    }

    /// Whether each record matches.
    ///
    /// # Errors
    /// When no record has a field of the expression: it is misspelt, or the records are of an earlier version.
    pub fn matches(&self, records: &[&Record]) -> Result<Vec<bool>, ReportError> {
        let fault = |reason: String| ReportError::Filter { expression: self.text.clone(), reason };
        let values: Vec<Value> = records
            .iter()
            .map(serde_json::to_value)
            .collect::<Result<_, _>>()
            .map_err(|error| fault(error.to_string()))?;
        let mut paths = Vec::new();
        self.root.collect_paths(&mut paths);
        let unknown = paths.into_iter().find(|path| values.iter().all(|value| field(value, path).is_none()));
        match unknown {
            Some(path) if !values.is_empty() => Err(fault(format!("no record has the field `{path}`"))),
            _ => Ok(values.iter().map(|value| self.root.matches(value)).collect()),
        }
    }
}

impl Node {
    fn matches(&self, record: &Value) -> bool {
        match self {
            Self::And(a, b) => a.matches(record) && b.matches(record),
            Self::Or(a, b) => a.matches(record) || b.matches(record),
            Self::Not(inner) => !inner.matches(record),
            Self::Compare { path, operator, values } => field(record, path)
                .is_some_and(|found| values.iter().any(|value| operator.holds(found, value))),
        }
    }

    fn collect_paths<'a>(&'a self, paths: &mut Vec<&'a str>) {
        match self {
            Self::And(a, b) | Self::Or(a, b) => {
                a.collect_paths(paths);
                b.collect_paths(paths);
            }
            Self::Not(inner) => inner.collect_paths(paths),
            Self::Compare { path, .. } => paths.push(path),
        }
    }
}

impl Operator {
    fn of(token: &str) -> Option<Self> {
        Some(match token {
            "=" | "==" => Self::Equal,
            "!=" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterEqual,
            "in" => Self::In,
            _ => return None,
        })
    }

    fn holds(self, found: &Value, value: &Value) -> bool {
        let order = match (found.as_f64(), value.as_f64()) {
            (Some(found), Some(value)) => found.partial_cmp(&value),
            _ => Some(plain(found).cmp(&plain(value))),
        };
        let Some(order) = order else { return false };
        match self {
            Self::Equal | Self::In => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterEqual => order.is_ge(),
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_lowercase)
}

fn field<'a>(record: &'a Value, path: &str) -> Option<&'a Value> {
    let found = path.split('.').try_fold(record, |value, name| value.get(name))?;
    (!found.is_null()).then_some(found)
}

/// A word in quotes keeps its quotes, so that it is never an operator.
fn tokens(text: &str) -> Result<Vec<String>, String> {
    let mut tokens = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let mut token = letter.to_string();
        match letter {
            space if space.is_whitespace() => continue,
            '(' | ')' | ',' => {}
            '\'' | '"' => loop {
                match letters.next() {
                    Some(end) if end == letter => break token.push(end),
                    Some(inner) => token.push(inner),
                    None => return Err(format!("the quote {token} is not closed")),
                }
            },
            '=' | '!' | '<' | '>' => token.extend(letters.next_if_eq(&'=')),
            _ => {
                let in_word = |letter: &char| letter.is_alphanumeric() || "_./@+-%".contains(*letter);
                if !in_word(&letter) {
                    return Err(format!("`{letter}` has no meaning here"));
                }
                while let Some(more) = letters.next_if(in_word) {
                    token.push(more);
                }
            }
        }
        tokens.push(token);
    }
    Ok(tokens)
}

/// Deepest nesting of parentheses and `not`: an expression of nothing else must not exhaust the stack.
const DEEPEST: usize = 64;

struct Parser {
    tokens: Vec<String>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&str> {
        self.tokens.get(self.next).map(String::as_str)
    }

    fn take(&mut self, what: &str) -> Result<String, String> {
        let token =
            self.tokens.get(self.next).cloned().ok_or_else(|| format!("{what} is missing at the end"))?;
        self.next += 1;
        Ok(token)
    }

    fn accept(&mut self, token: &str) -> bool {
        let found = self.peek().is_some_and(|next| next.eq_ignore_ascii_case(token));
        self.next += usize::from(found);
        found
    }

    fn any(&mut self) -> Result<Node, String> {
        let mut node = self.all()?;
        while self.accept("or") {
            node = Node::Or(Box::new(node), Box::new(self.all()?));
        }
        Ok(node)
    }

    fn all(&mut self) -> Result<Node, String> {
        let mut node = self.one()?;
        while self.accept("and") {
            node = Node::And(Box::new(node), Box::new(self.one()?));
        }
        Ok(node)
    }

    fn one(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(format!("it is nested deeper than {DEEPEST} levels"));
        }
        let node = if self.accept("not") {
            Node::Not(Box::new(self.one()?))
        } else if self.accept("(") {
            let node = self.any()?;
            if !self.accept(")") {
                return Err("a closing parenthesis is missing".into());
            }
            node
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn comparison(&mut self) -> Result<Node, String> {
        let name = self.take("a field")?;
        let path =
            SHORT_NAMES.iter().find(|(short, _)| *short == name).map_or(name.as_str(), |(_, path)| path);
        let token = self.take("an operator")?;
        let operator = Operator::of(&token.to_lowercase())
            .ok_or_else(|| format!("`{token}` is not an operator (=, !=, <, <=, >, >=, in)"))?;
        let values =
            if operator == Operator::In { self.list()? } else { vec![value(&self.take("a value")?)] };
        Ok(Node::Compare { path: path.into(), operator, values })
    }

    fn list(&mut self) -> Result<Vec<Value>, String> {
        if !self.accept("(") {
            return Err("`in` needs a list in parentheses".into());
        }
        let mut values = vec![value(&self.take("a value")?)];
        while self.accept(",") {
            values.push(value(&self.take("a value")?));
        }
        if self.accept(")") { Ok(values) } else { Err("a closing parenthesis is missing".into()) }
    }
}

fn value(token: &str) -> Value {
    match token.parse::<f64>() {
        Ok(number) => number.into(),
        Err(_) => token.trim_matches(['\'', '"']).into(),
    }
}
