//! Rope frequencies and their published scalings.
//!
//! Rope: Su et al., arXiv 2104.09864. YaRN: Peng et al., arXiv 2309.00071. Computed in f32 as the reference
//! implementations do, because at long positions the last bit of a frequency is visible.

use crate::config::{Config, Dialect};
use crate::error::PlanError;

/// Angles per position: `angle_i = position * frequencies[i]`, cosine and sine multiplied by `attention_factor`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// One per rotated pair, in radians per position.
    pub frequencies: Vec<f32>,
    /// Factor on cosine and sine (YaRN's temperature); 1 otherwise.
    pub attention_factor: f32,
    /// How the frequencies were made.
    pub recipe: Recipe,
}

/// How frequencies were made, for files that say it in words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// `theta` of the frequencies before scaling.
    pub base: f32,
    /// What was done to them.
    pub scaling: Scaling,
}

/// What is done to the frequencies of a rope.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// Nothing.
    None,
    /// All are divided by `factor`.
    Linear {
        /// The divisor.
        factor: f32,
    },
    /// Each is divided by a number of its own.
    Divisors,
    /// YaRN.
    Yarn(Yarn),
}

/// What YaRN is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// How many times longer than `original` the context is.
    pub factor: f32,
    /// Positions that the model was first trained with.
    pub original: f32,
    /// Frequencies with more rotations over `original` stay.
    pub beta_fast: f32,
    /// Frequencies with fewer rotations over `original` are divided by `factor`.
    pub beta_slow: f32,
    /// The borders between the two are rounded to whole dimensions.
    pub truncate: bool,
    /// Slope of the factor on scores, in tenths (DeepSeek).
    pub mscale_all_dim: Option<f32>,
}

impl Rope {
    /// Frequencies without scaling.
    pub fn plain(theta: f32, dim: usize) -> Rope {
        let recipe = Recipe { base: theta, scaling: Scaling::None };
        Rope { frequencies: frequencies(theta, dim), attention_factor: 1.0, recipe }
    }

    /// Frequencies of heads that turn as a whole, with the scaling in the object at `key`, if there is one.
    pub fn scaled(config: &Config, key: &'static str, theta: f32, dim: usize) -> Result<Rope, PlanError> {
        let scaling = Settings { config, key };
        if scaling.kind()?.as_deref() != Some("proportional") {
            whole(config, &scaling.path("partial_rotary_factor"))?;
        }
        Rope::scaled_part(config, key, theta, dim)
    }

    /// [`Rope::scaled`] for the part of a head that turns.
    pub fn scaled_part(
        config: &Config,
        key: &'static str,
        theta: f32,
        dim: usize,
    ) -> Result<Rope, PlanError> {
        let mut rope = Rope::plain(theta, dim);
        let scaling = Settings { config, key };
        let kind = scaling.kind()?;
        match kind.as_deref() {
            None | Some("default" | "none") => {}
            Some("linear") => {
                let factor = scaling.need("factor")?;
                rope.frequencies.iter_mut().for_each(|f| *f /= factor);
                rope.recipe.scaling = Scaling::Linear { factor };
            }
            Some("llama3") => scaling.llama3(&mut rope)?,
            Some("yarn") => scaling.yarn(&mut rope, theta, dim)?,
            // Pairs over the whole head, of which only the first part turns (Gemma 4).
            Some("proportional") => {
                let turning = (scaling.need("partial_rotary_factor")? * dim as f32) as usize / 2;
                rope.frequencies.iter_mut().skip(turning).for_each(|f| *f = 0.0);
                if scaling.number("factor")?.is_some() {
                    let factor = scaling.need("factor")?;
                    rope.frequencies.iter_mut().for_each(|f| *f /= factor);
                }
                rope.recipe.scaling = Scaling::Divisors;
            }
            Some(_) => {
                let field = if scaling.string("rope_type")?.is_some() { "rope_type" } else { "type" };
                return Err(config.unsupported(&format!("{key}.{field}")));
            }
        }
        let factor = scaling.number("relative_attention_factor")?;
        if kind.as_deref() != Some("yarn") && factor.is_some_and(|factor| factor != 1.0) {
            return Err(config.unsupported(&scaling.path("relative_attention_factor")));
        }
        Ok(rope)
    }

    /// Reads `rope_theta` and `rope_scaling` (or `rope_parameters`) for heads of `dim` dimensions.
    pub fn from_config(config: &Config, dim: usize) -> Result<Rope, PlanError> {
        for key in ["partial_rotary_factor", "rope_parameters.partial_rotary_factor"] {
            whole(config, key)?;
        }
        Rope::part_from_config(config, dim)
    }

    /// [`Rope::from_config`] for the `dim` dimensions of a head that turn.
    pub fn part_from_config(config: &Config, dim: usize) -> Result<Rope, PlanError> {
        let parameters = config.get("rope_parameters");
        if parameters.and_then(|value| value.as_object()).is_some_and(|o| o.values().any(|v| v.is_object())) {
            return Err(config.bad("rope_parameters", "one recipe for all layers"));
        }
        let key = if parameters.is_some() { "rope_parameters" } else { "rope_scaling" };
        let theta = match config.f32("rope_parameters.rope_theta")? {
            Some(theta) => theta,
            None => config.f32("rope_theta")?.unwrap_or(10_000.0),
        };
        if theta <= 0.0 {
            return Err(config.bad("rope_theta", "a number above 0"));
        }
        if config.get("rope_dim").is_some() && config.size("rope_dim")? != dim {
            return Err(config.unsupported("rope_dim"));
        }
        Rope::scaled_part(config, key, theta, dim)
    }

    /// Divides each frequency, as GGUF's `rope_freqs.weight` asks.
    pub fn divided_by(mut self, divisors: &[f32]) -> Rope {
        self.frequencies.iter_mut().zip(divisors).for_each(|(f, d)| *f /= d);
        self.recipe.scaling = Scaling::Divisors;
        self
    }
}

/// Refuses a factor at `key` that leaves a part of every head unturned.
fn whole(config: &Config, key: &str) -> Result<(), PlanError> {
    match config.f32(key)? {
        None | Some(1.0) => Ok(()),
        Some(_) => Err(config.unsupported(key)),
    }
}

fn frequencies(theta: f32, dim: usize) -> Vec<f32> {
    (0..dim / 2).map(|i| 1.0 / theta.powf((2 * i) as f32 / dim as f32)).collect()
}

/// A `rope_scaling` object under the key that holds it.
struct Settings<'a> {
    config: &'a Config,
    key: &'static str,
}

impl Settings<'_> {
    fn path(&self, field: &str) -> String {
        format!("{}.{field}", self.key)
    }

    /// What is to be done. A GGUF file that gives a factor and no kind means the linear one.
    fn kind(&self) -> Result<Option<String>, PlanError> {
        let gguf = self.config.dialect() == Dialect::Gguf;
        Ok(match (self.string("rope_type")?, self.string("type")?) {
            (Some(kind), _) | (None, Some(kind)) => Some(kind),
            (None, None) if gguf && self.number("factor")?.is_some_and(|factor| factor > 0.0) => {
                Some("linear".into())
            }
            (None, None) => None,
        })
    }

    fn string(&self, field: &str) -> Result<Option<String>, PlanError> {
        self.config.string(&self.path(field))
    }

    fn number(&self, field: &str) -> Result<Option<f32>, PlanError> {
        self.config.f32(&self.path(field))
    }

    fn need(&self, field: &str) -> Result<f32, PlanError> {
        match self.number(field)? {
            Some(x) if x > 0.0 => Ok(x),
            Some(_) => Err(self.config.bad(&self.path(field), "a number above 0")),
            None => Err(self.config.missing(&self.path(field))),
        }
    }

    /// Long wavelengths are divided by `factor`, short ones stay, those between are blended (Llama 3.1).
    fn llama3(&self, rope: &mut Rope) -> Result<(), PlanError> {
        let (factor, low, high) =
            (self.need("factor")?, self.need("low_freq_factor")?, self.need("high_freq_factor")?);
        let original = self.need("original_max_position_embeddings")?;
        rope.recipe.scaling = Scaling::Divisors;
        for frequency in &mut rope.frequencies {
            let wavelength = std::f32::consts::TAU / *frequency;
            if wavelength > original / low {
                *frequency /= factor;
            } else if wavelength > original / high {
                let smooth = (original / wavelength - low) / (high - low);
                *frequency = (1.0 - smooth) * *frequency / factor + smooth * *frequency;
            }
        }
        Ok(())
    }

    fn yarn(&self, rope: &mut Rope, theta: f32, dim: usize) -> Result<(), PlanError> {
        let factor = self.need("factor")?;
        let original = match self.number("original_max_position_embeddings")? {
            Some(original) => original,
            None => self.config.size("max_position_embeddings")? as f32,
        };
        let fast = self.number("beta_fast")?.unwrap_or(32.0);
        let slow = self.number("beta_slow")?.unwrap_or(1.0);
        let truncate = match self.config.get(&self.path("truncate")) {
            None => true,
            Some(_) => self.config.flag(&self.path("truncate"))?,
        };
        // In f64, so that what is rounded to a whole dimension is rounded as elsewhere.
        let correction = |rotations: f32| {
            let turns = f64::from(original) / (f64::from(rotations) * std::f64::consts::TAU);
            dim as f64 * turns.ln() / (2.0 * f64::from(theta).ln())
        };
        let (mut low, mut high) = (correction(fast), correction(slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        low = low.max(0.0);
        high = high.min(dim as f64 - 1.0);
        if low == high {
            high += 0.001;
        }
        let (low, high) = (low as f32, high as f32);
        for (i, frequency) in rope.frequencies.iter_mut().enumerate() {
            let ramp = ((i as f32 - low) / (high - low)).clamp(0.0, 1.0);
            *frequency = *frequency / factor * ramp + *frequency * (1.0 - ramp);
        }
        let mscale_all_dim = self.number("mscale_all_dim")?;
        rope.recipe.scaling = Scaling::Yarn(Yarn {
            factor,
            original,
            beta_fast: fast,
            beta_slow: slow,
            truncate,
            mscale_all_dim,
        });
        let mscale = |m: f32| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
        rope.attention_factor = match self.number("attention_factor")? {
            Some(given) => given,
            None => match (self.number("mscale")?, mscale_all_dim) {
                (Some(m), Some(all)) if m != 0.0 && all != 0.0 => mscale(m) / mscale(all),
                // GGUF's way to give the factor.
                _ => mscale(1.0) * self.number("relative_attention_factor")?.unwrap_or(1.0),
            },
        };
        Ok(())
    }
}
