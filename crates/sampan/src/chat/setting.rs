//! `/set`: every setting once, with how it is read and shown.

use crate::flags::{above_zero, at_least_zero, finite, probability};
use sampan::{Settings, nearest_name};

/// What `/set` changes: how answers are generated, and what is shown after them.
#[derive(Clone, Debug)]
pub(super) struct Adjustable {
    pub(super) settings: Settings,
    pub(super) stats: bool,
}

struct Setting {
    name: &'static str,
    purpose: &'static str,
    show: fn(&Adjustable) -> String,
    set: fn(&mut Adjustable, &str) -> Result<(), String>,
}

macro_rules! number {
    ($name:ident, $read:expr, $purpose:literal) => {
        Setting {
            name: stringify!($name),
            purpose: $purpose,
            show: |a| a.settings.$name.to_string(),
            set: |a, text| $read(text).map(|value| a.settings.$name = value),
        }
    };
}

const SETTINGS: [Setting; 14] = [
    number!(temperature, at_least_zero, "0 takes the likeliest token; higher is more varied"),
    number!(top_k, whole, "choose among this many likeliest tokens; 0 is off"),
    number!(top_p, probability, "choose among the likeliest tokens of this probability together; 1 is off"),
    number!(min_p, probability, "leave out tokens less likely than this times the likeliest; 0 is off"),
    number!(typical_p, probability, "choose among the most typical tokens; 1 is off"),
    number!(repeat_penalty, above_zero, "divides the logits of recent tokens; 1 is off"),
    number!(repeat_last_n, whole, "how many recent tokens that looks at"),
    number!(presence_penalty, finite, "taken from tokens that were generated before; 0 is off"),
    number!(frequency_penalty, finite, "the same for each time they were; 0 is off"),
    Setting {
        name: "seed",
        purpose: "the same seed gives the same answer; random takes another one each time",
        show: |a| a.settings.seed.map_or("random".into(), |seed| seed.to_string()),
        set: |a, text| {
            optional(text, "random", "a whole number, or random").map(|seed| a.settings.seed = seed)
        },
    },
    Setting {
        name: "max_tokens",
        purpose: "stop after this many tokens; none goes on until the model ends",
        show: |a| a.settings.max_tokens.map_or("none".into(), |n| n.to_string()),
        set: |a, text| {
            let n: Option<usize> = optional(text, "none", "a whole number of at least 1, or none")?;
            if n == Some(0) {
                return Err("needs a whole number of at least 1, or none".into());
            }
            a.settings.max_tokens = n;
            Ok(())
        },
    },
    Setting {
        name: "stop",
        purpose: "stop before this text (more with --stop on the command line); none removes all",
        show: |a| match a.settings.stop.as_slice() {
            [] => "none".into(),
            stops => stops.iter().map(|stop| format!("{stop:?}")).collect::<Vec<_>>().join(" "),
        },
        set: |a, text| {
            match text {
                "none" => a.settings.stop.clear(),
                text => a.settings.stop.push(text.into()),
            }
            Ok(())
        },
    },
    Setting {
        name: "think",
        purpose: "whether the model thinks first: on, off, or auto for what its template does",
        show: |a| a.settings.think.map_or("auto".into(), |on| on_off(on).into()),
        set: |a, text| {
            a.settings.think = if text == "auto" { None } else { Some(switch(text, "on, off or auto")?) };
            Ok(())
        },
    },
    Setting {
        name: "stats",
        purpose: "show speed and memory after each answer: on or off",
        show: |a| on_off(a.stats).into(),
        set: |a, text| switch(text, "on or off").map(|on| a.stats = on),
    },
];

/// All settings, one a line.
pub(super) fn list(adjustable: &Adjustable) -> String {
    SETTINGS.iter().map(|s| format!("{:<18} {:<8} {}\n", s.name, (s.show)(adjustable), s.purpose)).collect()
}

/// One setting.
pub(super) fn show(adjustable: &Adjustable, name: &str) -> Result<String, String> {
    let setting = find(name)?;
    Ok(format!("{} is {}: {}", setting.name, (setting.show)(adjustable), setting.purpose))
}

/// Changes one setting and says what it is now.
pub(super) fn set(adjustable: &mut Adjustable, name: &str, value: &str) -> Result<String, String> {
    let setting = find(name)?;
    (setting.set)(adjustable, value).map_err(|why| format!("{} {why}", setting.name))?;
    Ok(format!("{} is {}", setting.name, (setting.show)(adjustable)))
}

fn find(name: &str) -> Result<&'static Setting, String> {
    let wanted = name.replace('-', "_");
    if let Some(setting) = SETTINGS.iter().find(|s| s.name == wanted) {
        return Ok(setting);
    }
    let nearest = nearest_name(&wanted, SETTINGS.iter().map(|s| s.name));
    let advice = nearest.map(|n| format!("; did you mean {n}?")).unwrap_or_default();
    Err(format!("there is no setting {name}{advice} (/set lists all)"))
}

fn whole(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "needs a whole number".to_owned())
}

fn optional<T: std::str::FromStr>(text: &str, none: &str, wanted: &str) -> Result<Option<T>, String> {
    if text == none {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| format!("needs {wanted}"))
}

fn switch(text: &str, wanted: &str) -> Result<bool, String> {
    match text {
        "on" | "true" | "yes" => Ok(true),
        "off" | "false" | "no" => Ok(false),
        _ => Err(format!("needs {wanted}")),
    }
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_can_be_changed_and_shown() {
        let mut a = Adjustable { settings: Settings::default(), stats: false };
        for (name, value, says) in [
            ("temperature", "0.25", "temperature is 0.25"),
            ("top-k", "7", "top_k is 7"),
            ("top_p", "0.5", "top_p is 0.5"),
            ("min_p", "0.1", "min_p is 0.1"),
            ("typical_p", "0.9", "typical_p is 0.9"),
            ("repeat_penalty", "1.1", "repeat_penalty is 1.1"),
            ("repeat_last_n", "32", "repeat_last_n is 32"),
            ("presence_penalty", "-1", "presence_penalty is -1"),
            ("frequency_penalty", "0.5", "frequency_penalty is 0.5"),
            ("seed", "42", "seed is 42"),
            ("seed", "random", "seed is random"),
            ("max_tokens", "9", "max_tokens is 9"),
            ("max_tokens", "none", "max_tokens is none"),
            ("stop", "END", "stop is \"END\""),
            ("think", "off", "think is off"),
            ("stats", "on", "stats is on"),
        ] {
            assert_eq!(set(&mut a, name, value), Ok(says.to_owned()));
        }
        assert!(SETTINGS.iter().all(|s| list(&a).contains(s.name)));
        assert_eq!(a.settings.think, Some(false));
    }

    #[test]
    fn nonsense_changes_nothing() {
        let mut a = Adjustable { settings: Settings::default(), stats: false };
        for (name, value, why) in [
            ("temprature", "1", "did you mean temperature?"),
            ("temperature", "-1", "temperature needs a number of at least 0"),
            ("temperature", "NaN", "temperature needs a number"),
            ("top_p", "2", "top_p needs a number from 0 to 1"),
            ("max_tokens", "0", "max_tokens needs a whole number of at least 1"),
            ("think", "maybe", "think needs on, off or auto"),
        ] {
            let error = set(&mut a, name, value).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert_eq!(a.settings, Settings::default());
    }
}
