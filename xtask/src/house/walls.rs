//! The walls between the crates, read from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::{House, from_root};
use crate::{Failure, process};

/// What a crate of ours may and may not lean on.
pub(super) struct Wall {
    pub(super) crate_name: &'static str,
    /// The crates of ours that it may name, as any kind of dependency. The lab can be none but of tests: it has no version, and
    /// what names it otherwise cannot be published.
    pub(super) ours: &'static [&'static str],
    /// Crates that it may not name itself, dev-dependencies aside. A `*` at the end stands for any ending.
    pub(super) never_named: &'static [&'static str],
    /// Crates that may not come in at all, through whatever dependency.
    pub(super) never_reached: &'static [&'static str],
}

/// One row for every workspace package; a package without a row is a breach, so that a new wall is a decision.
pub(super) const WALLS: &[Wall] = &[
    Wall {
        crate_name: "counterfoil-core",
        ours: &[],
        // Time and chance are arguments there, and nothing does I/O.
        never_named: &["getrandom", "rand", "fastrand", "rustix"],
        never_reached: &["tokio", "axum*", "hyper*", "http", "tower*", "rusqlite", "libsqlite3-sys"],
    },
    Wall {
        crate_name: "counterfoil-store",
        ours: &["counterfoil-core", "counterfoil-lab"],
        never_named: &["http*", "tower*"],
        never_reached: &["axum*", "hyper*"],
    },
    Wall {
        crate_name: "counterfoil-http",
        // Not even for its tests: they stand on core's MemoryStore.
        ours: &["counterfoil-core"],
        never_named: &[],
        never_reached: &["rusqlite", "libsqlite3-sys", "tokio-postgres", "redis"],
    },
    Wall {
        crate_name: "counterfoil",
        ours: &["counterfoil-core", "counterfoil-store", "counterfoil-http", "counterfoil-lab"],
        never_named: &[],
        never_reached: &[],
    },
    Wall {
        crate_name: "counterfoil-server",
        ours: &["counterfoil", "counterfoil-lab"],
        never_named: &[],
        never_reached: &[],
    },
    Wall {
        crate_name: "counterfoil-fuzz",
        // It feeds each reader where it stands.
        ours: &["counterfoil", "counterfoil-core", "counterfoil-http", "counterfoil-server"],
        never_named: &[],
        never_reached: &[],
    },
    Wall {
        crate_name: "counterfoil-bench",
        // It measures each of them where it stands.
        ours: &["counterfoil", "counterfoil-core", "counterfoil-store", "counterfoil-lab"],
        never_named: &[],
        never_reached: &[],
    },
    Wall {
        crate_name: "conformance",
        // Its stores are filled by core's door for imports, and dialects are named where they are.
        ours: &["counterfoil", "counterfoil-core", "counterfoil-http"],
        never_named: &[],
        never_reached: &[],
    },
    // It asks from outside, as anybody would.
    Wall { crate_name: "counterfoil-lab", ours: &[], never_named: &[], never_reached: &[] },
    Wall {
        crate_name: "counterfoil-sim",
        // The rules and nothing around them: it brings its own store, network and time.
        ours: &["counterfoil-core"],
        never_named: &["getrandom", "rand", "rustix"],
        never_reached: &["tokio"],
    },
    Wall { crate_name: "xtask", ours: &[], never_named: &["counterfoil*"], never_reached: &[] },
];

/// A package of the workspace.
#[derive(Clone)]
pub(super) struct Package {
    pub(super) name: String,
    /// Its directory, as in [`House::files`].
    pub(super) directory: String,
    pub(super) dependencies: Vec<Dependency>,
    /// What each feature switches on.
    pub(super) features: BTreeMap<String, Vec<String>>,
    /// Every package that normal and build dependencies bring in, to any depth.
    pub(super) reaches: BTreeSet<String>,
}

#[derive(Clone)]
pub(super) struct Dependency {
    pub(super) name: String,
    pub(super) dev: bool,
    pub(super) default_features: bool,
    pub(super) features: Vec<String>,
}

/// Store and http never meet, core stands alone, and the server goes through the crate its users would use.
pub(super) fn walls(house: &House) -> Vec<String> {
    let mut breaches = Vec::new();
    for package in &house.packages {
        let name = &package.name;
        let Some(wall) = WALLS.iter().find(|wall| wall.crate_name == name) else {
            breaches.push(format!("{name} has no row in WALLS: say what it may depend on"));
            continue;
        };
        for dependency in &package.dependencies {
            let used = dependency.name.as_str();
            let ours = house.packages.iter().any(|other| other.name == used);
            // A crate may be its own dev-dependency: that is how tests switch a feature on.
            if ours && used != name && !wall.ours.contains(&used) {
                breaches.push(format!("{name} may not depend on {used}"));
            }
            if !dependency.dev && matches(wall.never_named, used) {
                breaches.push(format!("{name} may not depend on {used}"));
            }
            if name == "counterfoil-core" && used == "jiff" && reads_time_zones(dependency) {
                breaches.push(format!("{name} may use jiff only without its time zone features"));
            }
        }
        for used in package.reaches.iter().filter(|used| matches(wall.never_reached, used)) {
            breaches.push(format!("{name} may not bring in {used}"));
        }
    }
    breaches
}

/// The one crate that may plant faults without being asked to: it looks for them, and nobody gets it.
const PLANTS: &str = "counterfoil-sim";

/// Faults that are planted on purpose (the feature `mutants`, wherever there is one) are in nothing that is shipped: no crate
/// has them by default, and none switches them on in another.
pub(super) fn nothing_is_planted(house: &House) -> Vec<String> {
    let plants = |feature: &str| feature == "mutants" || feature.ends_with("/mutants");
    let mut breaches = Vec::new();
    for package in house.packages.iter().filter(|package| package.name != PLANTS) {
        let mut by_default = BTreeSet::new();
        let mut open = vec!["default"];
        while let Some(feature) = open.pop() {
            for next in package.features.get(feature).into_iter().flatten() {
                if by_default.insert(next.as_str()) {
                    open.push(next);
                }
            }
        }
        if by_default.into_iter().any(plants) {
            breaches.push(format!("{} plants faults by default", package.name));
        }
        for dependency in package.dependencies.iter().filter(|dependency| !dependency.dev) {
            if dependency.features.iter().any(|feature| plants(feature)) {
                breaches.push(format!("{} plants faults in {}", package.name, dependency.name));
            }
        }
    }
    breaches
}

/// jiff looks for the time zone of the machine, in the environment and on disk, unless told to leave it.
fn reads_time_zones(jiff: &Dependency) -> bool {
    jiff.default_features || jiff.features.iter().any(|feature| feature.starts_with("tz"))
}

fn matches(patterns: &[&str], name: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *pattern,
    })
}

/// The packages of the workspace, from `cargo metadata` for the machine this runs on.
pub(super) fn packages() -> Result<Vec<Package>, Failure> {
    let version = process::output(process::program("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc names no host")?;
    let metadata = process::output(&mut process::cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--all-features",
        "--filter-platform",
        host,
    ]))?;
    parse_packages(&serde_json::from_str(&metadata)?)
}

fn parse_packages(metadata: &Value) -> Result<Vec<Package>, Failure> {
    let names: BTreeMap<&str, &str> =
        array(&metadata["packages"]).iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
    let graph: BTreeMap<&str, Vec<&str>> = array(&metadata["resolve"]["nodes"])
        .iter()
        .map(|node| {
            let shipped = array(&node["deps"])
                .iter()
                .filter(|dependency| array(&dependency["dep_kinds"]).iter().any(|kind| text(&kind["kind"]) != "dev"));
            (text(&node["id"]), shipped.map(|dependency| text(&dependency["pkg"])).collect())
        })
        .collect();
    let members: BTreeSet<&str> = array(&metadata["workspace_members"]).iter().map(text).collect();
    let mut packages = Vec::new();
    for package in array(&metadata["packages"]).iter().filter(|package| members.contains(text(&package["id"]))) {
        let manifest = Path::new(text(&package["manifest_path"]));
        packages.push(Package {
            name: text(&package["name"]).to_owned(),
            directory: from_root(manifest.parent().ok_or("a manifest without a directory")?),
            dependencies: array(&package["dependencies"]).iter().map(parse_dependency).collect(),
            features: parse_features(&package["features"]),
            reaches: reached(text(&package["id"]), &graph).iter().map(|id| names[id].to_owned()).collect(),
        });
    }
    Ok(packages)
}

fn parse_dependency(dependency: &Value) -> Dependency {
    Dependency {
        name: text(&dependency["name"]).to_owned(),
        dev: text(&dependency["kind"]) == "dev",
        default_features: dependency["uses_default_features"].as_bool().unwrap_or(true),
        features: array(&dependency["features"]).iter().map(|feature| text(feature).to_owned()).collect(),
    }
}

fn parse_features(features: &Value) -> BTreeMap<String, Vec<String>> {
    let on = |list: &Value| array(list).iter().map(|feature| text(feature).to_owned()).collect();
    features.as_object().into_iter().flatten().map(|(name, list)| (name.clone(), on(list))).collect()
}

fn reached<'a>(from: &'a str, graph: &BTreeMap<&'a str, Vec<&'a str>>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(id) = open.pop() {
        for next in graph.get(id).into_iter().flatten() {
            if reached.insert(*next) {
                open.push(next);
            }
        }
    }
    reached
}

/// The elements of an array; none of anything else.
fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The text of a string; nothing of anything else.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{after, dependency};
    use super::*;

    #[test]
    fn core_depends_on_none_of_ours_not_even_for_tests() {
        let found = after(|house| house.depends("counterfoil-core", dependency("counterfoil-store")));
        assert_eq!(found, ["walls: counterfoil-core may not depend on counterfoil-store"]);
        let for_tests = Dependency { dev: true, ..dependency("counterfoil-http") };
        let found = after(|house| house.depends("counterfoil-core", for_tests));
        assert_eq!(found, ["walls: counterfoil-core may not depend on counterfoil-http"]);
    }

    #[test]
    fn store_and_http_never_meet() {
        let for_tests = Dependency { dev: true, ..dependency("counterfoil-store") };
        let found = after(|house| house.depends("counterfoil-http", for_tests));
        assert_eq!(found, ["walls: counterfoil-http may not depend on counterfoil-store"]);
        let found = after(|house| house.depends("counterfoil-store", dependency("counterfoil-http")));
        assert_eq!(found[0], "walls: counterfoil-store may not depend on counterfoil-http");
    }

    #[test]
    fn faults_are_planted_in_nothing_that_is_shipped() {
        let planted = Dependency { features: vec!["mutants".to_owned()], ..dependency("counterfoil-core") };
        let found = after(|house| house.depends("counterfoil-server", planted.clone()));
        assert!(
            found.contains(&"planted: counterfoil-server plants faults in counterfoil-core".to_owned()),
            "{found:?}"
        );
        let for_tests = Dependency { dev: true, ..planted.clone() };
        assert_eq!(after(|house| house.depends("counterfoil-store", for_tests)), [""; 0]);
        assert_eq!(after(|house| house.depends(PLANTS, planted)), [""; 0]);
        let features = |default: &str| {
            let on = [("default", vec![default.to_owned()]), ("more", vec!["counterfoil-core/mutants".to_owned()])];
            on.into_iter().map(|(name, on)| (name.to_owned(), on)).collect::<BTreeMap<_, _>>()
        };
        let found = after(|house| house.package("counterfoil").features = features("more"));
        assert_eq!(found, ["planted: counterfoil plants faults by default"]);
        assert_eq!(after(|house| house.package("counterfoil").features = features("less")), [""; 0]);
    }

    #[test]
    fn the_server_wires_only_through_counterfoil() {
        let found = after(|house| house.depends("counterfoil-server", dependency("counterfoil-core")));
        assert_eq!(found, ["walls: counterfoil-server may not depend on counterfoil-core"]);
    }

    #[test]
    fn a_crate_may_switch_its_own_features_on_for_its_tests() {
        let itself = Dependency { dev: true, ..dependency("counterfoil-core") };
        assert_eq!(after(|house| house.depends("counterfoil-core", itself)), [""; 0]);
    }

    #[test]
    fn core_names_no_source_of_time_or_chance() {
        let found = after(|house| house.depends("counterfoil-core", dependency("fastrand")));
        assert_eq!(found, ["walls: counterfoil-core may not depend on fastrand"]);
        let found = after(|house| house.depends("counterfoil-core", dependency("jiff")));
        assert_eq!(found, ["walls: counterfoil-core may use jiff only without its time zone features"]);
        let zoneless = Dependency { default_features: false, features: vec!["std".into()], ..dependency("jiff") };
        assert_eq!(after(|house| house.depends("counterfoil-core", zoneless)), [""; 0]);
    }

    #[test]
    fn what_comes_in_through_others_counts() {
        for (name, through) in
            [("counterfoil-core", "tokio"), ("counterfoil-http", "rusqlite"), ("counterfoil-store", "axum-core")]
        {
            let found = after(|house| {
                house.package(name).reaches.insert(through.to_owned());
            });
            assert_eq!(found, [format!("walls: {name} may not bring in {through}")]);
        }
    }

    #[test]
    fn a_new_package_needs_a_row() {
        let found = after(|house| house.package("xtask").name = "counterfoil-extra".into());
        assert_eq!(found, ["walls: counterfoil-extra has no row in WALLS: say what it may depend on"]);
    }

    #[test]
    fn the_graph_of_cargo_metadata_is_followed_without_dev_dependencies() {
        let node = |id: &str, deps: Value| serde_json::json!({"id": id, "deps": deps});
        let edge = |to: &str, kind: Value| serde_json::json!({"pkg": to, "dep_kinds": [{"kind": kind}]});
        let metadata = serde_json::json!({
            "packages": [
                {"id": "1", "name": "counterfoil-core", "manifest_path": process::root().join("crates/core/Cargo.toml"),
                 "dependencies": [{"name": "b", "kind": null, "uses_default_features": false, "features": ["x"]}]},
                {"id": "2", "name": "b"}, {"id": "3", "name": "c"}, {"id": "4", "name": "d"},
            ],
            "workspace_members": ["1"],
            "resolve": {"nodes": [
                node("1", serde_json::json!([edge("2", Value::Null), edge("4", "dev".into())])),
                node("2", serde_json::json!([edge("3", "build".into())])),
            ]},
        });
        let packages = parse_packages(&metadata).unwrap();
        assert_eq!(packages.len(), 1);
        assert_eq!(packages[0].directory, "crates/core");
        assert_eq!(packages[0].reaches, BTreeSet::from(["b".to_owned(), "c".to_owned()]));
        assert!(!packages[0].dependencies[0].dev && !packages[0].dependencies[0].default_features);
    }
}
