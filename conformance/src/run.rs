//! All scenarios, at once as far as they go, and what is said of them in order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Failure;
use crate::app::{self, App, Passwords, Wanted};
use crate::cases::{self, Action, Package, Scenario};
use crate::judge::{Verdict, judge};
use crate::replay::{Outcome, Side, Time, replay};
use crate::report::{Detail, Tally, told};
use crate::rules::Rules;
use crate::servers::Servers;

/// How many requests are under way at once.
const AT_ONCE: usize = 8;

/// How many services of ours run at once: more than those whose scenarios only wait, and few enough for the machine.
const SERVICES: usize = 64;

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) cases: PathBuf,
    pub(crate) rules: PathBuf,
    /// By the names of their files of scenarios or of their dialects; empty: all of them.
    pub(crate) packages: Vec<String>,
    pub(crate) only: Option<Regex>,
    pub(crate) detail: Detail,
    /// Servers that run already; empty: ours are started.
    pub(crate) servers: Servers,
}

/// What every replay has in common.
struct Stage {
    packages: Vec<Package>,
    /// By the name of their package.
    rules: BTreeMap<String, Rules>,
    servers: Servers,
    passwords: Passwords,
    at_once: Semaphore,
    services: Semaphore,
}

/// Whether every difference is meant.
pub(crate) async fn run(order: Order) -> Result<bool, Failure> {
    let mut packages = Vec::new();
    for folder in cases::folders(&order.cases)? {
        packages.extend(cases::load(&folder)?);
    }
    if !order.packages.is_empty() {
        packages = chosen(packages, &order.packages)?;
    }
    if let Some(only) = &order.only {
        for package in &mut packages {
            package.scenarios.retain(|scenario| only.is_match(&scenario.name));
        }
    }
    let mut rules = BTreeMap::new();
    for package in &packages {
        rules.insert(package.name.clone(), Rules::load(&order.rules, &package.name)?);
    }
    let passwords = Passwords::of(&packages)?;
    let stage = Arc::new(Stage {
        packages,
        rules,
        servers: order.servers,
        passwords,
        at_once: Semaphore::new(AT_ONCE),
        services: Semaphore::new(SERVICES),
    });

    let verdicts = replay_all(&stage).await?;
    let mut whole = Tally::default();
    for (at, package) in stage.packages.iter().enumerate() {
        let mut tally = Tally::default();
        for (nth, scenario) in package.scenarios.iter().enumerate() {
            if let Some(verdict) = verdicts.get(&(at, nth)) {
                tally.add(verdict);
                told(scenario, verdict, order.detail).iter().for_each(|line| println!("{line}"));
            }
        }
        println!("{:<20} {tally}", format!("{} {}", package.folder, package.name));
        whole.include(tally);
    }
    if order.only.is_none() {
        for (package, rules) in &stage.rules {
            rules.unused().iter().for_each(|reason| println!("{package}: no scenario needs the rule: {reason}"));
        }
    }
    if whole.scenarios() == 0 {
        return Err("no scenario was asked for".into());
    }
    println!("{whole}");
    Ok(whole.is_as_meant())
}

fn chosen(packages: Vec<Package>, names: &[String]) -> Result<Vec<Package>, Failure> {
    let is_called =
        |package: &Package, name: &String| package.name == *name || app::dialect_name(&package.name) == name;
    if let Some(name) = names.iter().find(|name| !packages.iter().any(|package| is_called(package, name))) {
        let known: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
        let known: Vec<&str> = known.into_iter().collect();
        return Err(format!("there are no scenarios of {name:?}, only of {}", known.join(", ")).into());
    }
    Ok(packages.into_iter().filter(|package| names.iter().any(|name| is_called(package, name))).collect())
}

/// The verdict on every scenario, by the numbers of its package and of itself.
async fn replay_all(stage: &Arc<Stage>) -> Result<BTreeMap<(usize, usize), Verdict>, Failure> {
    let mut numbers: Vec<(Duration, (usize, usize))> = Vec::new();
    for (at, package) in stage.packages.iter().enumerate() {
        numbers.extend(package.scenarios.iter().enumerate().map(|(nth, scenario)| (pauses(scenario), (at, nth))));
    }
    // Those that wait are begun first, so that the others are done while they do.
    numbers.sort_by_key(|(pauses, number)| (std::cmp::Reverse(*pauses), *number));
    let mut replays = JoinSet::new();
    for (_, number) in numbers {
        let stage = Arc::clone(stage);
        replays.spawn(async move { (number, stage.verdict(number).await) });
    }
    let mut verdicts = BTreeMap::new();
    while let Some(done) = replays.join_next().await {
        let (number, verdict) = done?;
        verdicts.insert(number, verdict);
    }
    Ok(verdicts)
}

fn pauses(scenario: &Scenario) -> Duration {
    let pause = |action: &Action| match action {
        Action::Sleep(time) => Some(*time),
        Action::Request(_) | Action::Mail(_) | Action::Relation(_) => None,
    };
    scenario.steps.iter().filter_map(|step| pause(&step.action)).sum()
}

impl Stage {
    async fn verdict(&self, (at, nth): (usize, usize)) -> Verdict {
        let package = &self.packages[at];
        let scenario = &package.scenarios[nth];
        let rules = &self.rules[&package.name];
        match self.outcomes(package, scenario).await {
            Ok(outcomes) => judge(scenario, &outcomes, rules),
            Err(why) => Verdict::Skipped(why),
        }
    }

    async fn outcomes(&self, package: &Package, scenario: &Scenario) -> Result<Vec<Outcome>, String> {
        if !self.servers.is_empty() {
            return self.outcomes_elsewhere(package, scenario).await;
        }
        let Package { name, setup, .. } = package;
        let wanted = Wanted { package: name, profile: &scenario.profile, setup, passwords: &self.passwords };
        let _service = self.services.acquire().await.map_err(|error| error.to_string())?;
        let app = {
            let _turn = self.at_once.acquire().await.map_err(|error| error.to_string())?;
            App::start(wanted).await?
        };
        let side = Side {
            host: app.host.clone(),
            base: String::new(),
            mailbox: app.mailbox.clone(),
            at_once: &self.at_once,
            time: Time::Real,
        };
        let outcomes = replay(scenario, &setup.tokens, &made_up_name()?, &side).await;
        app.stop().await;
        Ok(outcomes)
    }

    async fn outcomes_elsewhere(&self, package: &Package, scenario: &Scenario) -> Result<Vec<Outcome>, String> {
        let server = self.servers.of(&package.name, &scenario.profile);
        let server = server.ok_or_else(|| format!("no server was named for the profile {}", scenario.profile))?;
        let _turn = server.turn.lock().await;
        server.reset().await?;
        let side = Side {
            host: server.host.clone(),
            base: server.base.clone(),
            mailbox: server.mailbox.clone(),
            at_once: &self.at_once,
            time: Time::Real,
        };
        Ok(replay(scenario, &package.setup.tokens, &made_up_name()?, &side).await)
    }
}

/// A word that no other run uses.
fn made_up_name() -> Result<String, String> {
    let mut bytes = [0; 5];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    Ok(format!("u{}", bytes.map(|byte| format!("{byte:02x}")).concat()))
}
