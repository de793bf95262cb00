//! What a Redis may hold where djforge-redis-multitokens keeps its tokens: read as one of the package's two shapes or as nothing.

use counterfoil_server::pickle::{self, NotOurs, Pickle};

/// The bytes of one value.
pub fn run(input: &[u8]) {
    let read = pickle::read(input);
    assert_eq!(read, slowly(input), "{input:?}");
    if let Ok(read) = read {
        let texts = match &read {
            Pickle::Text(text) => std::slice::from_ref(text),
            Pickle::Texts(texts) => texts.as_slice(),
        };
        let length: usize = texts.iter().map(String::len).sum();
        assert!(length < input.len(), "{read:?} is more than there was");
        // And back, as Python would pickle it.
        assert_eq!(pickle::read(&pickled(&read)), Ok(read));
    }
}

/// The same from the documentation of `pickletools`, as a machine with a stack, and with nothing in it but these instructions.
fn slowly(input: &[u8]) -> Result<Pickle, NotOurs> {
    #[derive(Debug)]
    enum Value {
        Text(String),
        List(Vec<String>),
        Mark,
    }
    let mut at = 0;
    let mut take = |count: usize| {
        let taken = input.get(at..at + count).ok_or(NotOurs)?;
        at += count;
        Ok::<_, NotOurs>(taken.to_vec())
    };
    if take(1)? != [0x80] || !(2..=5).contains(&take(1)?[0]) {
        return Err(NotOurs);
    }
    let mut stack: Vec<Value> = Vec::new();
    // A number for what was made last, which only what makes something may be followed by; and a frame nowhere behind a frame.
    let (mut fresh, mut framed) = (false, false);
    loop {
        let code = take(1)?[0];
        let (was_fresh, was_framed) = (std::mem::take(&mut fresh), std::mem::take(&mut framed));
        match code {
            0x95 if !was_framed && !matches!(stack.as_slice(), [Value::Text(_)]) => {
                take(8)?;
                framed = true;
            }
            0x94 | b'q' | b'r' if was_fresh => drop(take(match code {
                0x94 => 0,
                b'q' => 1,
                _ => 4,
            })?),
            b']' if stack.is_empty() => {
                stack.push(Value::List(Vec::new()));
                fresh = true;
            }
            b'(' if matches!(stack.as_slice(), [Value::List(_)]) => stack.push(Value::Mark),
            0x8c | b'X' => {
                let length = match code {
                    0x8c => usize::from(take(1)?[0]),
                    _ => u32::from_le_bytes(take(4)?.try_into().expect("four")) as usize,
                };
                let fits = matches!(stack.as_slice(), [] | [Value::List(_)] | [Value::List(_), Value::Mark, ..]);
                if length > 512 || !fits {
                    return Err(NotOurs);
                }
                stack.push(Value::Text(String::from_utf8(take(length)?).map_err(|_| NotOurs)?));
                fresh = true;
            }
            b'a' => match (stack.pop(), stack.as_mut_slice()) {
                (Some(Value::Text(text)), [Value::List(list)]) => list.push(text),
                _ => return Err(NotOurs),
            },
            b'e' => {
                let mark = stack.iter().position(|value| matches!(value, Value::Mark)).ok_or(NotOurs)?;
                let texts = stack.split_off(mark);
                let [Value::List(list)] = stack.as_mut_slice() else { return Err(NotOurs) };
                list.extend(texts.into_iter().filter_map(|value| match value {
                    Value::Text(text) => Some(text),
                    Value::List(_) | Value::Mark => None,
                }));
            }
            b'.' => {
                return match (stack.pop(), stack.is_empty(), take(1)) {
                    (Some(Value::Text(text)), true, Err(NotOurs)) => Ok(Pickle::Text(text)),
                    (Some(Value::List(list)), true, Err(NotOurs)) => Ok(Pickle::Texts(list)),
                    _ => Err(NotOurs),
                };
            }
            _ => return Err(NotOurs),
        }
    }
}

fn pickled(value: &Pickle) -> Vec<u8> {
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.push(b'X');
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.push(0x94);
    };
    let mut bytes = vec![0x80, 4];
    match value {
        Pickle::Text(one) => text(&mut bytes, one),
        Pickle::Texts(texts) => {
            bytes.extend([b']', 0x94]);
            for one in texts {
                text(&mut bytes, one);
                bytes.push(b'a');
            }
        }
    }
    bytes.push(b'.');
    bytes
}
