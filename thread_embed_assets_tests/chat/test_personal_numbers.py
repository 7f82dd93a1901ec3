from __future__ import annotations

import pytest

from thread_embed_assets.chat.secrets import mask_secrets


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("+1 (202) 555-0147", "[PHONE]"),
        ("tel+442079460958", "tel[PHONE]"),
        ("+44 20 7946 0958, +49 (0)30 901820.", "[PHONE], [PHONE]."),
        ("202.555.0147 or 2025550147", "[PHONE] or [PHONE]"),
        ("020 7946 0958 and 0049 30 123456", "[PHONE] and [PHONE]"),
        ("06 12 34 56 78", "[PHONE]"),
        ("phone: 12345678", "phone: [PHONE]"),
        ("call me at 555-0147 ok", "call me at [PHONE] ok"),
        ("8.8.8.8:53 10.0.0.0/8", "[IP]:53 [IP]/8"),
        ("host-203-0-113-9.example.net", "host-[IP].example.net"),
        ("[2001:db8::1]:443 fe80::1", "[[IP]]:443 [IP]"),
        ("00-1B-44-11-3A-B7", "[MAC]"),
        ("4111 1111 1111 1111, 378282246310005", "[CARD], [CARD]"),
        ("GB82 WEST 1234 5698 7654 32 ok", "[IBAN] ok"),
        ("fr1420041010050500013M02606", "[IBAN]"),
        ("my ssn is 219-09-9999", "my ssn is [SSN]"),
    ],
)
def test_forms_of_numbers(text: str, masked: str) -> None:
    assert mask_secrets(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1 0.0.0.0 255.255.255.0 ::1 1.000.000.000 v1.2.3.4 3.10.12 1.2.3.4.5",
        "1699999999 1699999999.123456 2023-11-14 12:30:45 2023-11-14T12:30:45.123Z 14/11/2023",
        "pid 12345678 of 1234567890123, $1,234,567.89, 1073741824 bytes, 2147483647, #4567890",
        "around 0945-1000 or 0800-1700, 10-20-30, 30 60 90 120 150 180, 041 041 140",
        "4096 2006-02-19 04:30, 1234 5678 9012 3456, 0.4111111111111111",
        "std::string a::b::c x[10::20] 12:34:56:78 0000:00:1f.2 046d:c52b 00:00:00:00:00:00",
        "speaker_1: [+5m] phone line 12 since 2019-11-12, tel aviv 2019, call them 3 times",
    ],
)
def test_what_only_looks_like_a_number_of_somebody_stays(text: str) -> None:
    assert mask_secrets(text) == text
