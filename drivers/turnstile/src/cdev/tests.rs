use super::*;

const LANE: &str = r#"
    chip = "pins"
    [outputs]
    unlock_a = { line = "UNLOCK_A" }
    unlock_b = { line = 3, active_low = true }
    beacon_red = { line = 0, chip = "/dev/gpiochip1" }
    [inputs]
    passage_a = { line = "PASS_A", active_low = true, bias = "pull-up", debounce_us = 5000 }
    passage_b = { line = 2, bias = "pull-down" }
    ready = { line = "READY", chip = "gpiochip1", bias = "disabled" }
    fire_alarm = "unwired"
"#;

fn directory() -> Directory {
    let chip = |path: &str, label: &str, lines: &[&str]| ChipLines {
        path: path.into(),
        label: label.to_owned(),
        lines: lines.iter().map(|name| (*name).to_owned()).collect(),
    };
    Directory {
        chips: vec![
            chip("/dev/gpiochip0", "pins", &["PASS_A", "UNLOCK_A", "", "", "TWICE"]),
            chip("/dev/gpiochip1", "expander", &["", "READY", "TWICE", "ONCE"]),
            chip("/dev/gpiochip2", "same", &["A"]),
            chip("/dev/gpiochip3", "same", &["A"]),
        ],
        unreadable: None,
    }
}

fn lane() -> Settings {
    toml::from_str(LANE).unwrap()
}

#[test]
fn lines_are_found_by_name_and_by_offset() {
    let plan = Plan::new(&lane(), &directory()).unwrap();
    let (one, two) = (PathBuf::from("/dev/gpiochip0"), PathBuf::from("/dev/gpiochip1"));
    assert_eq!(plan.outputs[&one], [(Output::UnlockA, 1, false), (Output::UnlockB, 3, true)]);
    assert_eq!(plan.outputs[&two], [(Output::BeaconRed, 0, false)]);
    let lines = |path| plan.inputs[path].iter().map(|(line, offset, _)| (*line, *offset)).collect::<Vec<_>>();
    assert_eq!(lines(&one), [(Line::PassageA, 0), (Line::PassageB, 2)]);
    assert_eq!(lines(&two), [(Line::Ready, 1)]);
}

#[test]
fn without_a_chip_names_are_looked_up_everywhere() {
    let find = |line: &str| directory().find(&LineRef::Name(line.to_owned()), None, "stop");
    assert_eq!(find("ONCE").unwrap(), (PathBuf::from("/dev/gpiochip1"), 3));
    for (line, kind, text) in [
        ("TWICE", ErrorKind::Settings, "stop: there are two lines \"TWICE\", on /dev/gpiochip0"),
        ("NEVER", ErrorKind::NotFound, "stop: line \"NEVER\""),
        ("", ErrorKind::Settings, "a line's name has 1 to 31 bytes"),
        ("a name that is longer than any line", ErrorKind::Settings, "1 to 31 bytes"),
    ] {
        let error = find(line).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn what_cannot_be_found_is_named() {
    for (from, to, kind, text) in [
        ("UNLOCK_A", "UNLOCK_X", ErrorKind::NotFound, "unlock_a: line \"UNLOCK_X\" of pins"),
        ("line = 2", "line = 5", ErrorKind::NotFound, "passage_b: line 5 of /dev/gpiochip0, which has 5"),
        ("line = 2", "line = 4294967295", ErrorKind::NotFound, "passage_b: line 4294967295"),
        ("chip = \"pins\"", "chip = \"needles\"", ErrorKind::NotFound, "unlock_a: chip \"needles\""),
        (
            "chip = \"pins\"",
            "chip = \"same\"",
            ErrorKind::Settings,
            "may be /dev/gpiochip2 or /dev/gpiochip3",
        ),
        ("chip = \"pins\"", "", ErrorKind::Settings, "unlock_b: line 3 needs a chip"),
        ("line = 2", "line = 1", ErrorKind::Settings, "passage_b and unlock_a are the same line"),
        ("line = 2", "line = \"UNLOCK_A\"", ErrorKind::Settings, "passage_b and unlock_a are the same line"),
        ("5000", "1000001", ErrorKind::Settings, "passage_a: debounce_us is above 1000000"),
    ] {
        let settings: Settings = toml::from_str(&LANE.replace(from, to)).unwrap();
        let error = Plan::new(&settings, &directory()).unwrap_err();
        assert_eq!(error.kind(), kind, "{to}: {error}");
        assert!(error.to_string().contains(text), "{to}: {error}");
    }
}

#[test]
fn a_chip_that_may_not_be_read_is_the_likely_cause() {
    let denied = gpiocdev::Error::from(std::io::Error::from_raw_os_error(13));
    let directory = Directory { chips: Vec::new(), unreadable: Some(("/dev/gpiochip7".into(), denied)) };
    let error = Plan::new(&lane(), &directory).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("unlock_a: chip \"pins\" (perhaps on /dev/gpiochip7"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn settings_survive_being_written() {
    let again: Settings = toml::from_str(&toml::to_string(&lane()).unwrap()).unwrap();
    assert_eq!(again, lane());
}

#[test]
fn garbage_is_refused_with_its_name() {
    for (from, to, named) in [
        ("line = 2", "line = -1", "the name of a line, or its offset"),
        ("line = 2", "line = 2.5", "the name of a line, or its offset"),
        ("line = 2", "line = 4294967296", "the name of a line, or its offset"),
        ("line = 2,", "", "line"),
        ("pull-up", "up", "pull-up"),
        ("debounce_us = 5000", "debounce_us = -5", "-5"),
        ("debounce_us", "debounce_ms", "debounce_ms"),
        ("unlock_a", "unlock", "unlock"),
        ("fire_alarm = \"unwired\"", "", "fire_alarm"),
        ("\"unwired\"", "\"inactive\"", "unwired"),
        ("active_low = true, bias", "active_low = 1, bias", "boolean"),
        ("chip = \"pins\"", "chip = 0", "string"),
    ] {
        let error = toml::from_str::<Settings>(&LANE.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(named), "{to}: {error}");
    }
}

#[test]
fn lines_are_asked_for_as_the_settings_say() {
    let plan = Plan::new(&lane(), &directory()).unwrap();
    let (path, outputs) = plan.outputs.first_key_value().unwrap();
    let config = output_config(path, outputs);
    for (offset, active_low) in [(1, false), (3, true)] {
        let line = config.line_config(offset).unwrap();
        assert_eq!(line.direction, Some(gpiocdev::line::Direction::Output));
        assert_eq!((line.value, line.active_low), (Some(Value::Inactive), active_low));
    }
    let (path, inputs) = plan.inputs.first_key_value().unwrap();
    let config = input_config(path, inputs);
    let passage = config.line_config(0).unwrap();
    assert_eq!(passage.direction, Some(gpiocdev::line::Direction::Input));
    assert_eq!(passage.edge_detection, Some(EdgeDetection::BothEdges));
    assert_eq!(passage.bias, Some(gpiocdev::line::Bias::PullUp));
    assert_eq!((passage.active_low, passage.debounce_period), (true, Some(Duration::from_millis(5))));
    let other = config.line_config(2).unwrap();
    assert_eq!(other.bias, Some(gpiocdev::line::Bias::PullDown));
    assert_eq!((other.active_low, other.debounce_period), (false, None));
}

#[test]
fn system_errors_have_their_kinds() {
    let of =
        |doing, errno| failed(doing, gpiocdev::Error::from(std::io::Error::from_raw_os_error(errno))).kind();
    assert_eq!(of("open", 16), ErrorKind::Busy);
    assert_eq!(of("open", 2), ErrorKind::NotFound);
    assert_eq!(of("open", 19), ErrorKind::NotFound);
    assert_eq!(of("watch", 19), ErrorKind::Disconnected);
    assert_eq!(of("drive", 19), ErrorKind::Disconnected);
    assert_eq!(of("open", 1), ErrorKind::Io);
    assert_eq!(of("open", 22), ErrorKind::Io);
    let unnumbered = failed("open", gpiocdev::Error::InvalidArgument("x".into()));
    assert_eq!(unnumbered.kind(), ErrorKind::Settings);
}

#[test]
fn a_line_that_is_not_there_does_not_hide_the_others_from_the_failsafe() {
    let outputs = toml::from_str("unlock_a = { line = \"no such line\" }\nstop = { line = 1 }").unwrap();
    let (release, failures) = Release::find(None, &outputs);
    assert_eq!((release.lines(), failures.len()), (0, 2), "this test expects no chip with such a line");
    assert!(failures[0].1.to_string().contains("unlock_a"), "{}", failures[0].1);
    assert!(failures[1].1.to_string().contains("stop: line 1 needs a chip"), "{}", failures[1].1);
    assert!(release.make_inactive().is_empty());
}
