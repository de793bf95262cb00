//! `{{name}}` in a scenario: the values that were captured, and those that are there from the start.

use crate::json::Json;

/// What the places of a template are filled with, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Values {
    known: Vec<(String, Json)>,
}

/// Nothing is known by this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing(pub(crate) String);

impl Values {
    pub(crate) fn set(&mut self, name: impl Into<String>, value: Json) {
        Json::insert(&mut self.known, name.into(), value);
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Json> {
        self.known.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Fills every place of a text.
    pub(crate) fn fill(&self, template: &str) -> Result<String, Missing> {
        let mut filled = String::new();
        let mut rest = template;
        while let Some((before, name, after)) = place(rest) {
            filled.push_str(before);
            let value = self.get(name).ok_or_else(|| Missing(name.to_owned()))?;
            filled.push_str(&value.to_python_text());
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// Fills every text in a value, keys included. A text that is `{{int:name}}` and nothing else becomes a number.
    pub(crate) fn fill_json(&self, template: &Json) -> Result<Json, Missing> {
        Ok(match template {
            Json::Null | Json::Bool(_) | Json::Number(_) => template.clone(),
            Json::Text(text) => match whole_number(text) {
                Some(name) => {
                    let value = self.get(name).ok_or_else(|| Missing(name.to_owned()))?;
                    Json::Number(value.to_python_text().trim().to_owned())
                }
                None => Json::Text(self.fill(text)?),
            },
            Json::List(items) => Json::List(items.iter().map(|item| self.fill_json(item)).collect::<Result<_, _>>()?),
            Json::Object(entries) => {
                let filled = entries.iter().map(|(key, value)| Ok((self.fill(key)?, self.fill_json(value)?)));
                Json::Object(filled.collect::<Result<_, _>>()?)
            }
        })
    }
}

/// The first place: what is before it, its name, and what is after it.
fn place(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let open = from + text.get(from..)?.find("{{")?;
        let inside = &text[open + 2..];
        // A name has at least one character and no brace.
        let name = &inside[..inside.find('}')?];
        let after = &inside[name.len()..];
        if let Some(after) = after.strip_prefix("}}").filter(|_| !name.is_empty()) {
            return Some((&text[..open], name, after));
        }
        from = open + 1;
    }
}

fn whole_number(text: &str) -> Option<&str> {
    let name = text.strip_prefix("{{int:")?.strip_suffix("}}")?;
    (!name.is_empty() && !name.contains('}')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        let mut values = Values::default();
        values.set("tok", Json::text("abc"));
        values.set("id", Json::Number("7".to_owned()));
        values
    }

    #[test]
    fn places_are_filled_and_everything_else_stays() {
        assert_eq!(values().fill("Token {{tok}}/{{id}} {x} {{}} end").unwrap(), "Token abc/7 {x} {{}} end");
        assert_eq!(values().fill("{{tok} {{").unwrap(), "{{tok} {{");
    }

    #[test]
    fn a_name_that_is_not_known_is_told() {
        assert_eq!(values().fill("{{nobody}}"), Err(Missing("nobody".to_owned())));
    }

    #[test]
    fn a_whole_number_is_one_only_when_nothing_else_is_in_the_text() {
        let template = Json::parse(br#"{"{{tok}}": ["{{int:id}}", "{{id}}", null]}"#).unwrap();
        assert_eq!(values().fill_json(&template).unwrap().compact(), r#"{"abc": [7, "7", null]}"#);
    }
}
