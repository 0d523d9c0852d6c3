//! Which wire goes where: the tables that a turnstile's settings have, whatever drives the wires.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::{Line, Output};

/// The outputs of a lane, each described by an `O`. A line left out is not wired: driving it is accepted and
/// changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "O: Deserialize<'de>"))]
pub struct OutputWiring<O> {
    /// Releases direction A.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlock_a: Option<O>,
    /// Releases direction B.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlock_b: Option<O>,
    /// Closes the lane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<O>,
    /// Red light.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beacon_red: Option<O>,
    /// Green light.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beacon_green: Option<O>,
    /// Opens wide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wide: Option<O>,
}

/// The inputs of a lane, each described by an `I` or said to be `"unwired"`.
///
/// What counts people and what saves them must be said: `passage_a`, `passage_b` and `fire_alarm` have no
/// default. The others may be left out, which means unwired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "I: Deserialize<'de>"))]
pub struct InputWiring<I> {
    /// Somebody has gone through in direction A.
    pub passage_a: Input<I>,
    /// Somebody has gone through in direction B.
    pub passage_b: Input<I>,
    /// The fire contact.
    pub fire_alarm: Input<I>,
    /// The controller works; unwired it is always active.
    #[serde(default)]
    pub ready: Input<I>,
    /// The intrusion sensor.
    #[serde(default)]
    pub detector: Input<I>,
    /// The cabinet contact.
    #[serde(default)]
    pub tamper: Input<I>,
    /// The emergency exit button.
    #[serde(default)]
    pub emergency_button: Input<I>,
}

/// An input line: wired, or a constant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Input<I> {
    /// There is no wire: the line is at rest for ever ([`Line::at_rest`]).
    #[default]
    Unwired,
    /// There is one.
    Wired(I),
}

/// The word for [`Input::Unwired`] in a manifest.
const UNWIRED: &str = "unwired";

impl<O> Default for OutputWiring<O> {
    fn default() -> Self {
        Self { unlock_a: None, unlock_b: None, stop: None, beacon_red: None, beacon_green: None, wide: None }
    }
}

impl<O> OutputWiring<O> {
    /// The wire of an output.
    #[must_use]
    pub fn get(&self, output: Output) -> Option<&O> {
        match output {
            Output::UnlockA => self.unlock_a.as_ref(),
            Output::UnlockB => self.unlock_b.as_ref(),
            Output::Stop => self.stop.as_ref(),
            Output::BeaconRed => self.beacon_red.as_ref(),
            Output::BeaconGreen => self.beacon_green.as_ref(),
            Output::Wide => self.wide.as_ref(),
        }
    }

    /// All wired outputs, unlock lines first.
    pub fn wired(&self) -> impl Iterator<Item = (Output, &O)> {
        Output::ALL.into_iter().filter_map(|output| Some((output, self.get(output)?)))
    }
}

impl<I> InputWiring<I> {
    /// The wire of an input.
    #[must_use]
    pub fn get(&self, line: Line) -> Option<&I> {
        let input = match line {
            Line::PassageA => &self.passage_a,
            Line::PassageB => &self.passage_b,
            Line::Ready => &self.ready,
            Line::Detector => &self.detector,
            Line::FireAlarm => &self.fire_alarm,
            Line::Tamper => &self.tamper,
            Line::EmergencyButton => &self.emergency_button,
        };
        match input {
            Input::Unwired => None,
            Input::Wired(wire) => Some(wire),
        }
    }

    /// All wired inputs.
    pub fn wired(&self) -> impl Iterator<Item = (Line, &I)> {
        Line::ALL.into_iter().filter_map(|line| Some((line, self.get(line)?)))
    }

    /// All inputs that are constants.
    pub fn unwired(&self) -> impl Iterator<Item = Line> {
        Line::ALL.into_iter().filter(|line| self.get(*line).is_none())
    }
}

impl<I: Serialize> Serialize for Input<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unwired => serializer.serialize_str(UNWIRED),
            Self::Wired(wire) => wire.serialize(serializer),
        }
    }
}

// By hand, because an untagged enum forgets which key of the table was wrong.
impl<'de, I: Deserialize<'de>> Deserialize<'de> for Input<I> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrTable<I>(PhantomData<I>);

        impl<'de, I: Deserialize<'de>> Visitor<'de> for WordOrTable<I> {
            type Value = Input<I>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "a table that describes the wire, or {UNWIRED:?}")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Input<I>, E> {
                if word == UNWIRED {
                    return Ok(Input::Unwired);
                }
                Err(E::invalid_value(serde::de::Unexpected::Str(word), &self))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Input<I>, A::Error> {
                I::deserialize(MapAccessDeserializer::new(map)).map(Input::Wired)
            }
        }

        deserializer.deserialize_any(WordOrTable(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wire {
        pin: u8,
    }

    const LEAST: &str = r#"
        passage_a = { pin = 1 }
        passage_b = "unwired"
        fire_alarm = { pin = 3 }
    "#;

    #[test]
    fn what_is_left_out_is_unwired() {
        let inputs: InputWiring<Wire> = toml::from_str(LEAST).unwrap();
        let wired: Vec<_> = inputs.wired().map(|(line, wire)| (line, wire.pin)).collect();
        assert_eq!(wired, [(Line::PassageA, 1), (Line::FireAlarm, 3)]);
        assert_eq!(inputs.unwired().count(), Line::ALL.len() - 2);
        let outputs: OutputWiring<Wire> = toml::from_str("stop = { pin = 9 }").unwrap();
        let wired: Vec<_> = outputs.wired().map(|(output, wire)| (output, wire.pin)).collect();
        assert_eq!(wired, [(Output::Stop, 9)]);
    }

    #[test]
    fn settings_survive_being_written() {
        let inputs: InputWiring<Wire> = toml::from_str(LEAST).unwrap();
        let again: InputWiring<Wire> = toml::from_str(&toml::to_string(&inputs).unwrap()).unwrap();
        assert_eq!(again, inputs);
        let outputs: OutputWiring<Wire> = toml::from_str("stop = { pin = 9 }").unwrap();
        let again: OutputWiring<Wire> = toml::from_str(&toml::to_string(&outputs).unwrap()).unwrap();
        assert_eq!(again, outputs);
    }

    #[test]
    fn garbage_is_refused_with_its_name() {
        for (text, named) in [
            ("passage_a = { pin = 1 }\npassage_b = { pin = 2 }", "fire_alarm"),
            ("passage_b = { pin = 2 }\nfire_alarm = \"unwired\"", "passage_a"),
            ("passage_a = \"open\"\npassage_b = { pin = 2 }\nfire_alarm = { pin = 3 }", "unwired"),
            ("passage_a = { pin = 1 }\npassage_b = { pni = 2 }\nfire_alarm = { pin = 3 }", "pni"),
            ("passage_a = 7\npassage_b = { pin = 2 }\nfire_alarm = { pin = 3 }", "unwired"),
            ("passage_a = { pin = 300 }\npassage_b = { pin = 2 }\nfire_alarm = { pin = 3 }", "300"),
            ("pasage_a = { pin = 1 }\npassage_b = { pin = 2 }\nfire_alarm = { pin = 3 }", "pasage_a"),
        ] {
            let error = toml::from_str::<InputWiring<Wire>>(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
        let error = toml::from_str::<OutputWiring<Wire>>("unlock_c = { pin = 1 }").unwrap_err().to_string();
        assert!(error.contains("unlock_c"), "{error}");
    }
}
