//! One case, many instances: values of the matrix in place of their names.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::file::Axis;

/// One combination of the matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Choice {
    /// By name: label and value.
    values: BTreeMap<String, (String, Value)>,
}

/// Every combination, the last name's values changing fastest.
///
/// # Errors
/// A value without a label.
pub(super) fn choices(
    matrix: &BTreeMap<String, Axis>,
    exclude: &[BTreeMap<String, String>],
) -> Result<Vec<Choice>, String> {
    let mut all = vec![Choice::default()];
    for (name, axis) in matrix {
        let values = labelled(name, axis)?;
        let with = |choice: &Choice, value: &(String, Value)| {
            let mut choice = choice.clone();
            choice.values.insert(name.clone(), value.clone());
            choice
        };
        all = all.iter().flat_map(|c| values.iter().map(move |v| with(c, v))).collect();
    }
    all.retain(|choice| !exclude.iter().any(|labels| choice.has(labels)));
    Ok(all)
}

fn labelled(name: &str, axis: &Axis) -> Result<Vec<(String, Value)>, String> {
    match axis {
        Axis::Labelled(values) => Ok(values.clone().into_iter().collect()),
        Axis::Values(values) => {
            let own = |value: &Value| match value {
                Value::Array(_) | Value::Object(_) => {
                    Err(format!("matrix {name}: lists and maps need labels, {{LABEL: VALUE}}"))
                }
                value => Ok((text_of(value), value.clone())),
            };
            values.iter().map(own).collect()
        }
    }
}

impl Choice {
    /// Its name among the instances of its case: `flags=none,weights=1234`; empty where the case
    /// has no matrix.
    #[must_use]
    pub(super) fn label(&self) -> String {
        let each = |(name, (label, _)): (&String, &(String, Value))| format!("{name}={label}");
        self.values.iter().map(each).collect::<Vec<_>>().join(",")
    }

    fn has(&self, labels: &BTreeMap<String, String>) -> bool {
        labels
            .iter()
            .all(|(name, label)| self.values.get(name).is_some_and(|(own, _)| own == label))
    }

    /// A value with every `${NAME}` replaced.
    ///
    /// # Errors
    /// A name that the matrix does not have.
    pub(super) fn apply(&self, value: &Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => self.text(text)?,
            Value::Array(values) => {
                values.iter().map(|value| self.apply(value)).collect::<Result<_, _>>()?
            }
            Value::Object(map) => Value::Object(self.map(map)?),
            other => other.clone(),
        })
    }

    /// The same of a map; its keys may have names too.
    ///
    /// # Errors
    /// A name that the matrix does not have.
    pub(super) fn map(&self, map: &Map<String, Value>) -> Result<Map<String, Value>, String> {
        let each = |(key, value): (&String, &Value)| Ok((self.string(key)?, self.apply(value)?));
        map.iter().map(each).collect()
    }

    /// The same of a text that stays one.
    ///
    /// # Errors
    /// A name that the matrix does not have.
    pub(super) fn string(&self, text: &str) -> Result<String, String> {
        Ok(text_of(&self.text(text)?))
    }

    fn text(&self, text: &str) -> Result<Value, String> {
        let mut written = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, after)) = after.split_once('}') else { break };
            let (_, value) = self.values.get(name).ok_or_else(|| {
                let known: Vec<_> = self.values.keys().map(String::as_str).collect();
                format!("expected a name of the matrix ({}), found `${{{name}}}`", known.join(", "))
            })?;
            if before.is_empty() && written.is_empty() && after.is_empty() {
                return Ok(value.clone());
            }
            written += before;
            written += &text_of(value);
            rest = after;
        }
        Ok(Value::String(written + rest))
    }
}

/// A value as it stands in the middle of a text.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
