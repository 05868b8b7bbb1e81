"""What each error means and what to do, in English and German: the text behind a problem document's ``type``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

ERROR_TEXTS: Final[Mapping[str, tuple[str, str]]] = {
    "archive_unavailable": (
        "The content could not be stored safely, so nothing was promised. Keep the mail and ask again in a moment.",
        "Der Inhalt konnte nicht sicher abgelegt werden; es wurde nichts zugesagt. Bitte die Mail behalten und gleich "
        "noch einmal anfragen.",
    ),
    "conflict": (
        "Somebody registered this first, perhaps yourself. Look at what is there, or choose another name.",
        "Das wurde bereits registriert, vielleicht von Ihnen selbst. Bitte den Bestand ansehen oder einen anderen Namen "
        "wählen.",
    ),
    "content_lost": (
        "The content was erased or its retention has ended. What happened to the mail can still be looked up.",
        "Der Inhalt wurde gelöscht oder seine Aufbewahrungszeit ist vorbei. Der Verlauf der Mail bleibt abrufbar.",
    ),
    "forbidden": (
        "The credentials are right but do not allow this: the key lacks a scope, the account is bound to another door or "
        "to other source addresses, or the attachment is of a kind that runs code.",
        "Die Zugangsdaten stimmen, erlauben dies aber nicht: Dem Schlüssel fehlt ein Recht, das Konto gilt für einen "
        "anderen Zugang oder andere Adressen, oder der Anhang ist ein ausführbares Programm.",
    ),
    "forbidden_sender": (
        "The sender's domain is not registered for your account, or the sender is a role account such as postmaster@. "
        "Register the domain first.",
        "Die Absenderdomain ist für Ihr Konto nicht registriert, oder der Absender ist eine Funktionsadresse wie "
        "postmaster@. Bitte zuerst die Domain registrieren.",
    ),
    "idempotency_mismatch": (
        "This Idempotency-Key was used within the last 24 hours with another body. Use a fresh key for a new request.",
        "Dieser Idempotency-Key wurde in den letzten 24 Stunden mit einem anderen Inhalt benutzt. Für eine neue Anfrage "
        "bitte einen neuen Schlüssel nehmen.",
    ),
    "internal_error": (
        "Something went wrong on our side. Nothing was promised. Tell your operator the trace id.",
        "Bei uns ist etwas schiefgegangen. Es wurde nichts zugesagt. Bitte der Betreuung die trace_id nennen.",
    ),
    "invalid_query": (
        "The search cannot be read; the detail names the character and what would be right.",
        "Die Suche ist nicht lesbar; die Einzelheiten nennen die Stelle und was dort richtig wäre.",
    ),
    "invalid_value": (
        "A value is not as it must be; `errors` points at each one. Correct it and ask again.",
        "Ein Wert ist nicht zulässig; `errors` zeigt auf jeden einzelnen. Bitte berichtigen und erneut anfragen.",
    ),
    "limit_exceeded": (
        "There are too many of one thing, such as recipients, attachments or header fields. Split the request.",
        "Von etwas sind es zu viele, etwa Empfänger, Anhänge oder Kopfzeilen. Bitte die Anfrage aufteilen.",
    ),
    "log_unavailable": (
        "The log could not acknowledge the mail, so nothing was promised. Keep it and ask again; with an Idempotency-Key "
        "that is safe.",
        "Das Protokoll konnte die Mail nicht bestätigen; es wurde nichts zugesagt. Bitte behalten und erneut anfragen; mit "
        "einem Idempotency-Key ist das gefahrlos.",
    ),
    "malformed_request": (
        "The body is not JSON in UTF-8. The detail names line and column.",
        "Der Inhalt ist kein JSON in UTF-8. Die Einzelheiten nennen Zeile und Spalte.",
    ),
    "method_not_allowed": (
        "There is something at this address, but it does not know this method. The Allow header lists those it knows.",
        "Unter dieser Adresse gibt es etwas, aber nicht mit dieser Methode. Der Kopf Allow nennt die bekannten.",
    ),
    "missing_value": (
        "A mandatory value is missing or empty; `errors` points at it.",
        "Ein Pflichtwert fehlt oder ist leer; `errors` zeigt darauf.",
    ),
    "not_available_yet": (
        "This feature is planned and not there yet. The request was refused as a whole, so that nothing is left out "
        "silently.",
        "Diese Funktion ist geplant, aber noch nicht vorhanden. Die Anfrage wurde als Ganzes abgelehnt, damit nichts "
        "stillschweigend wegfällt.",
    ),
    "not_found": (
        "There is no such thing for your account, or it has expired. What you have just sent appears within a second.",
        "Das gibt es für Ihr Konto nicht, oder es ist abgelaufen. Eben Gesendetes erscheint innerhalb einer Sekunde.",
    ),
    "outage": (
        "We cannot take this just now. Keep it and ask again after the time in Retry-After.",
        "Gerade können wir das nicht annehmen. Bitte behalten und nach der Zeit in Retry-After erneut anfragen.",
    ),
    "overload": (
        "Too much at once. Slow down and ask again after the time in Retry-After; nothing is lost.",
        "Zu viel auf einmal. Bitte langsamer und nach der Zeit in Retry-After erneut anfragen; nichts geht verloren.",
    ),
    "refused": ("The request was refused; the detail says why.", "Die Anfrage wurde abgelehnt; der Grund steht dabei."),
    "request_timeout": (
        "The body did not arrive within five minutes. Check the connection and ask again.",
        "Der Inhalt kam nicht innerhalb von fünf Minuten an. Bitte die Verbindung prüfen und erneut anfragen.",
    ),
    "scanner_unavailable": (
        "A virus scanner gives no verdict. Mail waits; it never passes unscanned.",
        "Ein Virenscanner gibt kein Urteil ab. Mail wartet; ungeprüft geht keine hinaus.",
    ),
    "setup": (
        "The machine or the configuration is not as needed. `depesche doctor` says what is wrong and how to mend it.",
        "Der Rechner oder die Einstellungen sind nicht wie nötig. `depesche doctor` sagt, was fehlt und wie es zu beheben "
        "ist.",
    ),
    "store_unavailable": (
        "Search is not available just now. Mail is taken and delivered as always.",
        "Die Suche ist gerade nicht verfügbar. Mail wird angenommen und zugestellt wie immer.",
    ),
    "too_large": (
        "The message or the request body is larger than 20 MB. Attachments grow by a third in base64.",
        "Die Nachricht oder der Inhalt der Anfrage ist größer als 20 MB. Anhänge wachsen in base64 um ein Drittel.",
    ),
    "unauthorized": (
        "The credentials are missing, wrong, expired, or their account is not active. We do not say which.",
        "Die Zugangsdaten fehlen, sind falsch, abgelaufen, oder ihr Konto ist nicht aktiv. Welches davon, sagen wir nicht.",
    ),
    "undecodable": (
        "A record could not be read. It was set aside with its cause for the operators.",
        "Ein Datensatz war nicht lesbar. Er wurde mit seiner Ursache für die Betreuung beiseitegelegt.",
    ),
    "unsupported_media_type": (
        "The body must be application/json in UTF-8 and not compressed.",
        "Der Inhalt muss application/json in UTF-8 und unkomprimiert sein.",
    ),
}
"""Error code to its two texts; a test holds that every error of the tree has one."""
