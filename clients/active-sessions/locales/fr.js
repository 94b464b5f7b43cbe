// Put together from clients/active-sessions/src by build.py there: change that.
import { translate } from "../sojourn-active-sessions.js";
translate("fr", {
title: "Où vous êtes connecté",
intro: "Déconnectez tout appareil que vous ne reconnaissez pas.",
count: {
one: "{n} session active",
other: "{n} sessions actives"
},
thisDevice: "Cet appareil",
unknownDevice: "Appareil inconnu",
now: "Actif maintenant",
justNow: "à l’instant",
used: "Actif {when}",
begun: "Connecté {when}",
ends: "Expire {when}",
facts: "Détails",
grouped: {
one: "{n} session",
other: "{n} sessions"
},
unfold: "Les afficher une par une",
endAll: "Déconnecter les {n}",
endAllOf: "Déconnecter les {n} de {device}",
seats: {
one: "{n} place utilisée",
other: "{n} places utilisées"
},
lastFrom: "Dernière utilisation depuis {place}",
rename: "Renommer",
renameOf: "Renommer {device}",
nameOf: "Nom pour {device}",
save: "Enregistrer",
signOut: "Déconnecter",
signOutOf: "Déconnecter {device}",
ask: "Déconnecter {device} ?",
askEffect: "Il faudra s’y connecter de nouveau.",
askHere: "Se déconnecter de cet appareil ?",
askHereEffect: "Vous devrez vous connecter de nouveau ici.",
askSeats: {
one: "Sa place se libère.",
other: "Ses {n} places se libèrent."
},
askAll: "Déconnecter les {n} sessions de {device} ?",
askAllEffect: "Il faudra s’y connecter de nouveau.",
askOthers: {
one: "Déconnecter {n} autre appareil ?",
other: "Déconnecter {n} autres appareils ?"
},
askOthersEffect: {
one: "Il faudra s’y connecter de nouveau.",
other: "Il faudra s’y connecter de nouveau."
},
signingOut: "Déconnexion…",
done: "{device} est déconnecté.",
doneBefore: "{device} était déjà déconnecté.",
doneOthers: {
one: "{n} autre appareil est déconnecté.",
other: "{n} autres appareils sont déconnectés."
},
freed: {
one: "{n} place est de nouveau libre.",
other: "{n} places sont de nouveau libres."
},
others: "Déconnecter les autres appareils",
noOthers: "Aucun autre appareil n’est connecté.",
cancel: "Annuler",
refresh: "Actualiser",
refreshed: "À jour.",
retry: "Réessayer",
more: "Afficher plus",
shown: "{n} sur {total} affichées",
loading: "Chargement de vos sessions…",
emptyTitle: "Aucune session active",
emptyText: "Quand vous vous connectez sur un appareil, il apparaît ici.",
errorTitle: "Impossible d’afficher vos sessions pour le moment",
errorText: "Vous êtes toujours connecté, et rien n’a changé.",
offline: "Il n’y a pas de connexion au réseau.",
retrying: {
one: "Nouvel essai dans {n} seconde.",
other: "Nouvel essai dans {n} secondes."
},
stale: "Cette liste n’est peut-être plus à jour.",
failed: "Nous ne savons pas si cela a réussi. Vous pouvez réessayer sans risque.",
reauth: "Confirmez d’abord que c’est bien vous : connectez-vous de nouveau.",
goneTitle: "Vous avez été déconnecté",
goneText: "Connectez-vous de nouveau pour voir où vous êtes connecté ailleurs.",
signIn: "Se connecter de nouveau",
onlyHere: "Vous n’êtes connecté qu’ici. Quand vous vous connectez sur un autre appareil, il apparaît ici.",
notSetUp: "Les sessions actives ne sont pas encore configurées sur ce site, il n’y a donc rien à afficher. Ses responsables ont été prévenus.",
reasons: {
signed_out_elsewhere: "Cet appareil a été déconnecté depuis un autre.",
signed_out_everywhere: "Vous vous êtes déconnecté partout.",
signed_out: "Vous vous êtes déconnecté.",
revoked: "Les responsables du site ont déconnecté cet appareil.",
signed_out_by_operator: "Les responsables du site ont déconnecté cet appareil.",
cut_off: "Les responsables du site ont déconnecté tout le monde.",
idle: "Cet appareil n’avait pas été utilisé depuis un moment.",
expired: "Votre connexion était arrivée à son terme."
}
});
