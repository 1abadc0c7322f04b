//! Tickets: what is accepted is written back as a ticket that says the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_store::ticket::Ticket;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(ticket) = text.parse::<Ticket>() {
        let again = ticket.to_text().expect("what was accepted can be written");
        assert_eq!(again.parse::<Ticket>().expect("and read again"), ticket);
    }
    // past the checksum
    if data.len() < 4000 {
        let mut bytes = vec![1];
        bytes.extend(data);
        let sum = *blake3::hash(&bytes).as_bytes();
        bytes.extend(&sum[..4]);
        let word = data_encoding::BASE32_NOPAD.encode(&bytes);
        if let Ok(ticket) = format!("lode1{word}").parse::<Ticket>() {
            let again = ticket.to_text().expect("what was accepted can be written");
            assert_eq!(again.parse::<Ticket>().expect("and read again"), ticket);
        }
    }
});
