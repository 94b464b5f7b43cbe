// Put together from clients/active-sessions/src by build.py there: change that.
import { translate } from "../sojourn-active-sessions.js";
translate("nl", {
title: "Waar u bent aangemeld",
intro: "Meld elk apparaat af dat u niet herkent.",
count: {
one: "{n} actieve sessie",
other: "{n} actieve sessies"
},
thisDevice: "Dit apparaat",
unknownDevice: "Onbekend apparaat",
now: "Nu actief",
justNow: "zojuist",
used: "Laatst actief {when}",
begun: "Aangemeld {when}",
ends: "Verloopt {when}",
facts: "Details",
grouped: {
one: "{n} sessie",
other: "{n} sessies"
},
unfold: "Toon ze afzonderlijk",
endAll: "Alle {n} afmelden",
endAllOf: "Alle {n} van {device} afmelden",
seats: {
one: "{n} plaats in gebruik",
other: "{n} plaatsen in gebruik"
},
lastFrom: "Laatst gebruikt vanuit {place}",
rename: "Naam wijzigen",
renameOf: "Naam van {device} wijzigen",
nameOf: "Naam voor {device}",
save: "Opslaan",
signOut: "Afmelden",
signOutOf: "{device} afmelden",
ask: "{device} afmelden?",
askEffect: "Daar moet u zich dan opnieuw aanmelden.",
askHere: "Op dit apparaat afmelden?",
askHereEffect: "U moet zich hier dan opnieuw aanmelden.",
askSeats: {
one: "De plaats ervan komt vrij.",
other: "De {n} plaatsen ervan komen vrij."
},
askAll: "Alle {n} sessies van {device} afmelden?",
askAllEffect: "Daar moet u zich dan opnieuw aanmelden.",
askOthers: {
one: "{n} ander apparaat afmelden?",
other: "{n} andere apparaten afmelden?"
},
askOthersEffect: {
one: "Daar moet u zich dan opnieuw aanmelden.",
other: "Daar moet u zich dan opnieuw aanmelden."
},
signingOut: "Bezig met afmelden…",
done: "{device} is afgemeld.",
doneBefore: "{device} was al afgemeld.",
doneOthers: {
one: "{n} ander apparaat is afgemeld.",
other: "{n} andere apparaten zijn afgemeld."
},
freed: {
one: "{n} plaats is weer vrij.",
other: "{n} plaatsen zijn weer vrij."
},
others: "Andere apparaten afmelden",
noOthers: "Er is geen ander apparaat aangemeld.",
cancel: "Annuleren",
refresh: "Vernieuwen",
refreshed: "Bijgewerkt.",
retry: "Opnieuw proberen",
more: "Meer tonen",
shown: "{n} van {total} getoond",
loading: "Uw sessies worden geladen…",
emptyTitle: "Geen actieve sessies",
emptyText: "Wanneer u zich op een apparaat aanmeldt, verschijnt het hier.",
errorTitle: "Uw sessies kunnen nu niet worden getoond",
errorText: "U bent nog aangemeld en er is niets veranderd.",
offline: "Er is geen verbinding met het netwerk.",
retrying: {
one: "Nieuwe poging over {n} seconde.",
other: "Nieuwe poging over {n} seconden."
},
stale: "Deze lijst is misschien niet meer actueel.",
failed: "We weten niet of dat is gelukt. U kunt het zonder risico opnieuw proberen.",
reauth: "Bevestig eerst dat u het bent: meld u opnieuw aan.",
goneTitle: "U bent afgemeld",
goneText: "Meld u opnieuw aan om te zien waar u nog meer bent aangemeld.",
signIn: "Opnieuw aanmelden",
onlyHere: "U bent alleen hier aangemeld. Wanneer u zich op een ander apparaat aanmeldt, verschijnt het hier.",
notSetUp: "Actieve sessies zijn op deze site nog niet ingesteld, dus er is niets om te tonen. De beheerders zijn op de hoogte gebracht.",
reasons: {
signed_out_elsewhere: "Dit apparaat is vanaf een ander apparaat afgemeld.",
signed_out_everywhere: "U hebt zich overal afgemeld.",
signed_out: "U hebt zich afgemeld.",
revoked: "De beheerders van de site hebben dit apparaat afgemeld.",
signed_out_by_operator: "De beheerders van de site hebben dit apparaat afgemeld.",
cut_off: "De beheerders van de site hebben iedereen afgemeld.",
idle: "Dit apparaat is een tijdje niet gebruikt.",
expired: "Uw aanmelding was verlopen."
}
});
