//! `cargo xtask sbom [FILE]`: the bill of materials of the program, in CycloneDX 1.5.
//!
//! What is linked into `counterfoil` or runs while it is built, on any platform; what only tests need is not in it. Without
//! time stamps and serial numbers, so that the same sources give the same file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};

use crate::{Failure, process};

/// The package whose bill it is.
const PROGRAM: &str = "counterfoil-server";

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let bill = format!("{:#}\n", bill()?);
    match arguments {
        [] => print!("{bill}"),
        [file] => fs::write(file, bill)?,
        [_, more, ..] => return Err(format!("takes one file, got `{more}` as well").into()),
    }
    Ok(())
}

fn bill() -> Result<Value, Failure> {
    let metadata = process::output(&mut process::cargo(&["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let lock = fs::read_to_string(process::root().join("Cargo.lock"))?;
    of(&metadata, &checksums(&lock))
}

/// SHA-256 of each crate as its registry has it, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut checksums = BTreeMap::new();
    for package in lock.split("[[package]]") {
        let field = |name: &str| {
            let quoted = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
            quoted.and_then(|value| value.strip_suffix('"')).map(str::to_owned)
        };
        if let (Some(name), Some(version), Some(checksum)) = (field("name"), field("version"), field("checksum")) {
            checksums.insert((name, version), checksum);
        }
    }
    checksums
}

fn of(metadata: &Value, checksums: &BTreeMap<(String, String), String>) -> Result<Value, Failure> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let packages: BTreeMap<String, Value> =
        list(&metadata["packages"]).into_iter().map(|package| (text(&package["id"]), package)).collect();
    let reference = |id: &str| format!("pkg:cargo/{}@{}", text(&packages[id]["name"]), text(&packages[id]["version"]));

    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        let is_shipped = |dep: &Value| list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
        let shipped = list(&node["deps"]).into_iter().filter(is_shipped).map(|dep| text(&dep["pkg"]));
        needs.insert(text(&node["id"]), shipped.collect());
    }
    let program = packages.iter().find(|(_, package)| package["name"] == PROGRAM).map(|(id, _)| id.clone());
    let program = program.ok_or_else(|| format!("there is no package {PROGRAM}"))?;
    let mut reached = BTreeSet::new();
    let mut open = vec![program.clone()];
    while let Some(id) = open.pop() {
        if reached.insert(id.clone()) {
            open.extend(needs.get(&id).into_iter().flatten().cloned());
        }
    }

    let component = |id: &String| {
        let package = &packages[id];
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        let mut component = json!({
            "type": if *id == program { "application" } else { "library" },
            "bom-ref": reference(id), "name": name, "version": version, "purl": reference(id),
        });
        if let Some(license) = package["license"].as_str() {
            // As crates wrote it before there was SPDX in Cargo.toml.
            component["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
        }
        if let Some(checksum) = checksums.get(&(name, version)) {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        component
    };
    let depends = |id: &String| {
        let on: Vec<String> = needs.get(id).into_iter().flatten().map(|id| reference(id)).collect();
        json!({ "ref": reference(id), "dependsOn": on })
    };
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": component(&program) },
        "components": reached.iter().filter(|id| **id != program).map(component).collect::<Vec<_>>(),
        "dependencies": reached.iter().map(depends).collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r35_the_bill_names_what_is_shipped_with_its_licence_and_checksum_and_nothing_else() {
        let bill = bill().unwrap();
        let components = bill["components"].as_array().unwrap();
        let find = |name: &str| components.iter().find(|component| component["name"] == name);
        for name in ["counterfoil-core", "axum", "argon2", "libsqlite3-sys"] {
            let component = find(name).unwrap_or_else(|| panic!("{name} is missing"));
            let ours = name.starts_with("counterfoil");
            assert_eq!(component["hashes"][0]["content"].as_str().map(str::len), (!ours).then_some(64), "{name}");
            assert!(component["licenses"][0]["expression"].as_str().unwrap().contains("MIT"), "{name}");
        }
        for name in ["proptest", "xtask", "counterfoil-bench", PROGRAM] {
            assert!(find(name).is_none(), "{name} is not a part of the program");
        }
        let references: BTreeSet<&str> =
            components.iter().map(|component| component["bom-ref"].as_str().unwrap()).collect();
        assert_eq!(references.len(), components.len(), "one reference, one component");
        let program = bill["metadata"]["component"]["bom-ref"].as_str().unwrap();
        for dependency in bill["dependencies"].as_array().unwrap() {
            for needed in dependency["dependsOn"].as_array().unwrap() {
                assert!(references.contains(needed.as_str().unwrap()), "{needed} of {}", dependency["ref"]);
            }
        }
        assert_eq!(bill["dependencies"].as_array().unwrap().len(), components.len() + 1);
        assert!(program.starts_with("pkg:cargo/counterfoil-server@"));
    }

    #[test]
    fn checksums_are_read_from_the_lock_file() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"b\"\nversion = \"2.0.0\"\n\
                    source = \"registry\"\nchecksum = \"abc\"\n";
        let expected = BTreeMap::from([(("b".to_owned(), "2.0.0".to_owned()), "abc".to_owned())]);
        assert_eq!(checksums(lock), expected);
    }
}
