//! Figures, their goals, and how both are told: a table and a JSON file.

use std::{fmt, path::Path};

use serde_json::{Value, json};

use super::{machine::Machine, stat::Rounds};

/// What a figure is to reach.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// Its value, at most.
    AtMost(f64),
    /// Its value, at least.
    AtLeast(f64),
    /// Its value over the floor's, at most.
    RatioAtMost(f64),
    /// Its value over the floor's, at least.
    RatioAtLeast(f64),
}

impl Goal {
    fn is_met(self, value: f64, ratio: Option<f64>) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
            Self::RatioAtMost(limit) => ratio.is_some_and(|ratio| ratio <= limit),
            Self::RatioAtLeast(limit) => ratio.is_some_and(|ratio| ratio >= limit),
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "≤ {limit}"),
            Self::AtLeast(limit) => write!(f, "≥ {limit}"),
            Self::RatioAtMost(limit) => write!(f, "≤ {limit} × floor"),
            Self::RatioAtLeast(limit) => write!(f, "≥ {limit} × floor"),
        }
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    floor: Option<f64>,
    ratio: Option<f64>,
    goal: Goal,
    met: bool,
    /// Figure and floor of each round, to see how much they vary.
    rounds: Vec<[f64; 2]>,
}

impl Figure {
    /// A figure measured in turns with its floor.
    pub fn of(name: impl Into<String>, unit: &'static str, rounds: &Rounds, goal: Goal) -> Self {
        let name = name.into();
        let mut figure = Self::new(name, unit, rounds.value(), Some(rounds.floor()), goal);
        figure.ratio = Some(rounds.ratio());
        figure.met = goal.is_met(figure.value, figure.ratio);
        figure.rounds = rounds.pairs();
        figure
    }

    /// A figure measured once.
    pub fn new(
        name: impl Into<String>,
        unit: &'static str,
        value: f64,
        floor: Option<f64>,
        goal: Goal,
    ) -> Self {
        let ratio = floor.map(|floor| value / floor);
        Self {
            name: name.into(),
            value,
            unit,
            floor,
            ratio,
            goal,
            met: goal.is_met(value, ratio),
            rounds: Vec::new(),
        }
    }

    /// Not met if the conditions it was to be measured under did not hold.
    pub fn provided(mut self, held: bool) -> Self {
        self.met &= held;
        self
    }

    fn cells(&self) -> [String; 7] {
        [
            self.name.clone(),
            short(self.value),
            self.unit.to_owned(),
            self.floor.map_or_else(|| "-".to_owned(), short),
            self.ratio
                .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}")),
            self.goal.to_string(),
            if self.met { "yes" } else { "NO" }.to_owned(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "floor": self.floor,
            "ratio": self.ratio,
            "goal": self.goal.to_string(),
            "met": self.met,
            "rounds": self.rounds,
        })
    }
}

/// Four digits that count.
fn short(number: f64) -> String {
    match number {
        n if n >= 1000.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    }
}

/// Prints the table.
pub fn print(figures: &[Figure]) {
    let head = ["figure", "value", "unit", "floor", "ratio", "goal", "met"];
    let rows: Vec<[String; 7]> = std::iter::once(head.map(str::to_owned))
        .chain(figures.iter().map(Figure::cells))
        .collect();
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    for row in &rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = width(column);
            match column {
                1 | 3 | 4 => format!("{cell:>width$}"),
                _ => format!("{cell:<width$}"),
            }
        });
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// Writes the file.
pub fn write(path: &Path, machine: &Machine, figures: &[Figure]) {
    let report = json!({
        "machine": machine.json(),
        "figures": figures.iter().map(Figure::json).collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&report).expect("a report is JSON");
    std::fs::write(path, text + "\n").expect("the report is written");
}
