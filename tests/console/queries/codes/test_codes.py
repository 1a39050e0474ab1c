import pytest

from console.queries.codes.countries import find_country, read_countries
from console.queries.codes.error_codes import explain_code
from worker.events.delivery_receipt import ERRORS


@pytest.mark.parametrize(
    ("network", "country"),
    [
        ("23410", "United Kingdom"),
        ("23591", "United Kingdom"),
        ("310260", "United States"),
        ("26201", "Germany"),
        ("40445", "India"),
        ("00101", None),
        ("US-VIRTUAL", None),
        ("23", None),
        ("", None),
        ("٢٣٤10", None),
    ],
)
def test_a_network_belongs_to_the_country_of_its_first_digits(network: str, country: str | None) -> None:
    """Several codes of one country have one name, and no other text has a country."""
    assert find_country(network) == country


def test_the_table_of_countries_is_complete_and_has_no_double() -> None:
    """Each of the more than 230 codes has three digits and one name."""
    countries = read_countries()
    assert len(countries) > 230
    assert all(code.isdigit() and len(code) == 3 and name == name.strip() for code, name in countries.items())


def test_each_error_of_a_receipt_is_explained() -> None:
    """The console explains every code that the parser of delivery receipts knows."""
    explanations = [explain_code(code) for code in ERRORS]
    assert all(each and each.meaning and each.advice and "delivery-receipts" in each.source for each in explanations)


def test_an_error_of_the_messages_api_links_to_its_place() -> None:
    """The source of a code leads to the provider's list; a code that is not in the list has no explanation."""
    explanation = explain_code("1340")
    assert explanation is not None
    assert explanation.source == "https://developer.vonage.com/en/api-errors/messages#1340"
    assert explain_code("9999") is None
