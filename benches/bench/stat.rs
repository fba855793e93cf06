//! Medians, percentiles, and rounds in which a figure and its floor take turns.

use std::time::Duration;

/// Rounds of every ratio.
pub const ROUNDS: usize = 5;

/// What was measured in each round.
#[derive(Debug, Default)]
pub struct Rounds {
    figures: Vec<f64>,
    floors: Vec<f64>,
}

impl Rounds {
    /// Measures both in every round; which goes first alternates, so that a
    /// drift of the machine is not taken for a difference.
    pub fn interleaved(mut figure: impl FnMut() -> f64, mut floor: impl FnMut() -> f64) -> Self {
        let mut rounds = Self::default();
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                rounds.figures.push(figure());
                rounds.floors.push(floor());
            } else {
                rounds.floors.push(floor());
                rounds.figures.push(figure());
            }
        }
        rounds
    }

    /// Measures latencies in turns so short that whatever else the machine does
    /// falls on all alike. The floor is the sum of the floors' medians.
    pub fn in_blocks(
        blocks: usize,
        mut figure: impl FnMut() -> Vec<f64>,
        floors: &mut [&mut dyn FnMut() -> Vec<f64>],
    ) -> Self {
        let mut rounds = Self::default();
        for _ in 0..ROUNDS {
            let mut times = Vec::new();
            let mut floor_times = vec![Vec::new(); floors.len()];
            for _ in 0..blocks {
                times.extend(figure());
                for (floor, times) in floors.iter_mut().zip(&mut floor_times) {
                    times.extend(floor());
                }
            }
            let floor = floor_times.iter().map(|times| median(times)).sum();
            rounds.push(median(&times), floor);
        }
        rounds
    }

    /// Measures latencies of several kinds in such turns: the floor is the quickest
    /// kind, the figure the slowest. How slow a kind is, is the median over the turns
    /// of its ratio to the first kind in the same turn: a machine that is slow for a
    /// while is so for all.
    pub fn spread(blocks: usize, kinds: &mut [impl FnMut() -> Vec<f64>]) -> Self {
        let mut rounds = Self::default();
        for _ in 0..ROUNDS {
            let mut first = Vec::new();
            let mut ratios = vec![Vec::new(); kinds.len()];
            for _ in 0..blocks {
                let turn: Vec<_> = kinds.iter_mut().map(|kind| median(&kind())).collect();
                first.push(turn[0]);
                for (time, ratios) in turn.iter().zip(&mut ratios) {
                    ratios.push(time / turn[0]);
                }
            }
            let ratios = ratios.iter().map(|ratios| median(ratios) * median(&first));
            let (quickest, slowest) = ratios.fold((f64::MAX, f64::MIN), |(least, most), time| {
                (least.min(time), most.max(time))
            });
            rounds.push(slowest, quickest);
        }
        rounds
    }

    /// A round that was measured elsewhere.
    pub fn push(&mut self, figure: f64, floor: f64) {
        self.figures.push(figure);
        self.floors.push(floor);
    }

    /// Each round's figure and floor.
    pub fn pairs(&self) -> Vec<[f64; 2]> {
        let pairs = self.figures.iter().zip(&self.floors);
        pairs.map(|(figure, floor)| [*figure, *floor]).collect()
    }

    /// The figure: median of the rounds.
    pub fn value(&self) -> f64 {
        median(&self.figures)
    }

    /// The floor: median of the rounds.
    pub fn floor(&self) -> f64 {
        median(&self.floors)
    }

    /// Median of the rounds' ratios, which is not the ratio of the medians.
    pub fn ratio(&self) -> f64 {
        let ratios = self.figures.iter().zip(&self.floors);
        median(
            &ratios
                .map(|(figure, floor)| figure / floor)
                .collect::<Vec<_>>(),
        )
    }
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    percentile(&mut values.to_vec(), 0.5)
}

/// The value that the given share of values does not exceed.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    assert!(!values.is_empty(), "something was measured");
    values.sort_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}

/// In microseconds.
pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// In milliseconds.
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
