// Put together from clients/active-sessions/src by build.py there: change that.
import { translate } from "../sojourn-active-sessions.js";
translate("de", {
title: "Wo Sie angemeldet sind",
intro: "Melden Sie jedes Gerät ab, das Sie nicht erkennen.",
count: {
one: "{n} aktive Sitzung",
other: "{n} aktive Sitzungen"
},
thisDevice: "Dieses Gerät",
unknownDevice: "Unbekanntes Gerät",
now: "Jetzt aktiv",
justNow: "gerade eben",
used: "Zuletzt aktiv {when}",
begun: "Angemeldet {when}",
ends: "Läuft {when} ab",
facts: "Details",
grouped: {
one: "{n} Sitzung",
other: "{n} Sitzungen"
},
unfold: "Alle einzeln zeigen",
endAll: "Alle {n} abmelden",
endAllOf: "Alle {n} von {device} abmelden",
seats: {
one: "{n} Platz in Gebrauch",
other: "{n} Plätze in Gebrauch"
},
lastFrom: "Zuletzt benutzt von {place}",
rename: "Umbenennen",
renameOf: "{device} umbenennen",
nameOf: "Name für {device}",
save: "Speichern",
signOut: "Abmelden",
signOutOf: "{device} abmelden",
ask: "{device} abmelden?",
askEffect: "Dort ist dann eine neue Anmeldung nötig.",
askHere: "Von diesem Gerät abmelden?",
askHereEffect: "Sie müssen sich hier dann neu anmelden.",
askSeats: {
one: "Sein Platz wird frei.",
other: "Seine {n} Plätze werden frei."
},
askAll: "Alle {n} Sitzungen von {device} abmelden?",
askAllEffect: "Dort sind dann neue Anmeldungen nötig.",
askOthers: {
one: "{n} anderes Gerät abmelden?",
other: "{n} andere Geräte abmelden?"
},
askOthersEffect: {
one: "Dort ist dann eine neue Anmeldung nötig.",
other: "Dort sind dann neue Anmeldungen nötig."
},
signingOut: "Wird abgemeldet…",
done: "{device} ist abgemeldet.",
doneBefore: "{device} war schon abgemeldet.",
doneOthers: {
one: "{n} anderes Gerät ist abgemeldet.",
other: "{n} andere Geräte sind abgemeldet."
},
freed: {
one: "{n} Platz ist wieder frei.",
other: "{n} Plätze sind wieder frei."
},
others: "Andere Geräte abmelden",
noOthers: "Kein anderes Gerät ist angemeldet.",
cancel: "Abbrechen",
refresh: "Aktualisieren",
refreshed: "Auf dem neuesten Stand.",
retry: "Erneut versuchen",
more: "Mehr zeigen",
shown: "{n} von {total} gezeigt",
loading: "Ihre Sitzungen werden geladen…",
emptyTitle: "Keine aktiven Sitzungen",
emptyText: "Sobald Sie sich auf einem Gerät anmelden, erscheint es hier.",
errorTitle: "Ihre Sitzungen können gerade nicht gezeigt werden",
errorText: "Sie sind weiterhin angemeldet, und nichts hat sich geändert.",
offline: "Es besteht keine Verbindung zum Netz.",
retrying: {
one: "Neuer Versuch in {n} Sekunde.",
other: "Neuer Versuch in {n} Sekunden."
},
stale: "Diese Liste ist vielleicht nicht mehr aktuell.",
failed: "Ob das geklappt hat, ist ungewiss. Sie können es gefahrlos erneut versuchen.",
reauth: "Bestätigen Sie zuerst, dass Sie es sind: Melden Sie sich neu an.",
goneTitle: "Sie wurden abgemeldet",
goneText: "Melden Sie sich neu an, um zu sehen, wo Sie sonst noch angemeldet sind.",
signIn: "Neu anmelden",
onlyHere: "Sie sind nur hier angemeldet. Sobald Sie sich auf einem anderen Gerät anmelden, erscheint es hier.",
notSetUp: "Aktive Sitzungen sind auf dieser Website noch nicht eingerichtet, darum gibt es nichts zu zeigen. Ihre Betreiber wurden benachrichtigt.",
reasons: {
signed_out_elsewhere: "Dieses Gerät wurde von einem anderen aus abgemeldet.",
signed_out_everywhere: "Sie haben sich überall abgemeldet.",
signed_out: "Sie haben sich abgemeldet.",
revoked: "Die Betreiber der Website haben dieses Gerät abgemeldet.",
signed_out_by_operator: "Die Betreiber der Website haben dieses Gerät abgemeldet.",
cut_off: "Die Betreiber der Website haben alle abgemeldet.",
idle: "Dieses Gerät wurde eine Weile nicht benutzt.",
expired: "Ihre Anmeldung war abgelaufen."
}
});
