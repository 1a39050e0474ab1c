"""Explains the error codes of the provider: their meaning, the advice, and the page that documents them."""

from dataclasses import dataclass

MESSAGES_SOURCE = "https://developer.vonage.com/en/api-errors/messages"
RECEIPTS_SOURCE = "https://developer.vonage.com/en/messaging/sms/guides/delivery-receipts"

_FIX_REQUEST = "Correct the request; the same one fails again."
_LATER = "Send it again later."
_REMOVE = "Remove the number from your lists."
_SUPPORT = "Ask Vonage support if it stays."
_CHECK_NUMBER = "Check the number, with its country code."

_MESSAGES = {
    "1000": ("The account sends faster than it may.", "Send more slowly, or ask Vonage for a higher limit."),
    "1010": ("A required field is missing in the request.", _FIX_REQUEST),
    "1020": ("A field of the request has an invalid value.", _FIX_REQUEST),
    "1021": ("The tag is invalid.", _FIX_REQUEST),
    "1022": (
        "The template or one of its parameters is invalid.",
        "Compare name, language and parameters with the template.",
    ),
    "1030": ("Vonage had an internal error.", f"{_LATER} {_SUPPORT}"),
    "1040": ("Vonage could not process the message, for example because of the number's prefix.", _CHECK_NUMBER),
    "1050": ("The number is blocked and may not receive messages.", _REMOVE),
    "1060": ("The account is barred from sending.", "Contact Vonage support."),
    "1070": ("The account has too little credit.", "Top up the account, then send again."),
    "1080": ("The account may not send over this API.", "Contact Vonage support, or use SMPP."),
    "1090": ("The binary message is longer than 140 bytes.", "Send a shorter message."),
    "1100": ("The connection failed, and the message was not submitted.", _LATER),
    "1120": ("The country does not allow this sender.", "Register the name there, or send from a number."),
    "1130": ("The time to live is invalid.", _FIX_REQUEST),
    "1140": ("The account does not have this feature.", "Ask Vonage to enable it."),
    "1150": ("The message class is out of range.", _FIX_REQUEST),
    "1160": ("The number is not on the list of allowed destinations.", "Add it in the Vonage dashboard."),
    "1170": ("The recipient is missing or invalid.", _CHECK_NUMBER),
    "1180": ("The phone was off or out of coverage.", _LATER),
    "1190": ("The number is not in use any more.", _REMOVE),
    "1200": (
        "The person changed the carrier, and the number is not moved correctly.",
        "The person has to contact the carrier.",
    ),
    "1210": (
        "The carrier took it for spam.",
        "Look at recent changes of sender, text or links. Ask Vonage if it stays.",
    ),
    "1220": (
        "The phone was busy.",
        "If the status is rejected, send it again later; else Vonage repeats it for 24 to 48 h.",
    ),
    "1230": ("The network failed.", _LATER),
    "1240": ("The person has opted out.", "Stop sending to this number."),
    "1241": ("Too many messages went to this number.", "Send less often to one person."),
    "1250": (
        "No route to this number is available.",
        "Check that the sender may write to this network. Ask Vonage support.",
    ),
    "1260": (
        "The message could not be delivered to the number.",
        "Check the number; for Viber, check that your account may send to the country.",
    ),
    "1270": (
        "The carrier blocks this content because of the person's age.",
        "Do not send such content to this number.",
    ),
    "1280": (
        "The carrier blocks the number, for example because its plan has no SMS.",
        "The person has to ask the carrier.",
    ),
    "1290": ("The person's prepaid account has too little credit to receive it.", _LATER),
    "1300": ("The person does not use this app.", "Send it as an SMS, or use failover."),
    "1310": ("The person's device cannot receive this message.", "Send it as an SMS, or use failover."),
    "1320": ("The message was sent before.", "Nothing to do; look for a sender that repeats."),
    "1330": ("The carrier reported an unknown error.", f"{_CHECK_NUMBER} {_SUPPORT}"),
    "1331": ("The channel's provider did not answer.", "Send it again in some minutes."),
    "1340": ("It came after the app's reply window had closed.", "Use an approved template for the first message."),
    "1350": ("The Facebook page has not paid the fee for phone matching.", "Pay it, or send to the id of the person."),
    "1360": ("Its time to live was over.", "Nothing is charged. Use a longer time, or send it again."),
    "1370": ("The access token of the Facebook page has expired.", "Connect the page with Vonage again."),
    "1380": ("The media file could not be loaded.", "Check that its URL is public and correct."),
    "1381": ("The media file is too large.", "Send a smaller file."),
    "1382": ("The media file has the wrong type.", "Send a type that the channel supports."),
}
_RECEIPTS = {
    "1": ("It was not delivered, and no cause is known.", f"{_CHECK_NUMBER} {_SUPPORT}"),
    "2": ("The phone was off or out of coverage.", _LATER),
    "3": ("The number is not in use any more.", _REMOVE),
    "4": ("The person's line does not accept it, permanently.", f"{_REMOVE} The person has to ask the carrier."),
    "5": ("The number is not moved correctly to another carrier.", "The person has to contact the carrier."),
    "6": ("The carrier took it for spam.", "Look at recent changes of sender, text or links. Ask Vonage if it stays."),
    "7": ("The phone was busy.", _LATER),
    "8": ("The network failed.", _LATER),
    "9": ("The person does not want messages of this service.", "Stop sending to this number."),
    "10": ("A parameter of the message is wrong, for example its encoding.", _FIX_REQUEST),
    "11": ("Vonage has no route to this number.", "Ask Vonage support."),
    "12": ("The number cannot be reached.", _CHECK_NUMBER),
    "13": ("The person is too young for this content.", "Do not send such content to this number."),
    "14": ("The carrier blocks SMS to this number.", "The person has to ask the carrier to allow SMS."),
    "15": ("The person's prepaid account has too little credit.", _LATER),
    "50": ("The sending entity is not registered in the country.", "Register it; see the rules of the country."),
    "51": ("The sender name is not registered in the country.", "Register the name; see the rules of the country."),
    "52": ("The text does not match a registered template.", "Register the template; see the rules of the country."),
    "53": ("The consent of the person is missing.", "Register the consent; see the rules of the country."),
    "54": ("A regulation of the country blocks it.", "See the rules of the country, or ask Vonage support."),
    "99": ("A general error: typically the route failed.", f"{_LATER} {_SUPPORT}"),
}


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """A documented error code."""

    code: str
    meaning: str
    advice: str
    """The next step of a person."""
    source: str
    """The URL of the page that documents the code."""


def explain_code(code: str) -> ErrorCode | None:
    """Return the documented meaning of the code; None if the code is not documented.

    Codes of one or two digits are those of delivery receipts of the SMS API.
    """
    for codes, source in ((_MESSAGES, f"{MESSAGES_SOURCE}#{code}"), (_RECEIPTS, RECEIPTS_SOURCE)):
        if explanation := codes.get(code):
            return ErrorCode(code, *explanation, source)
    return None
