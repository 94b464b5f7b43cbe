// Put together from clients/active-sessions/src by build.py there: change that.
import { translate } from "../sojourn-active-sessions.js";
translate("pt-BR", {
title: "Onde você está conectado",
intro: "Desconecte qualquer dispositivo que você não reconheça.",
count: {
one: "{n} sessão ativa",
other: "{n} sessões ativas"
},
thisDevice: "Este dispositivo",
unknownDevice: "Dispositivo desconhecido",
now: "Ativo agora",
justNow: "agora mesmo",
used: "Ativo {when}",
begun: "Conectado {when}",
ends: "Expira {when}",
facts: "Detalhes",
grouped: {
one: "{n} sessão",
other: "{n} sessões"
},
unfold: "Mostrar cada uma",
endAll: "Desconectar as {n}",
endAllOf: "Desconectar as {n} de {device}",
seats: {
one: "{n} vaga em uso",
other: "{n} vagas em uso"
},
lastFrom: "Último uso em {place}",
rename: "Renomear",
renameOf: "Renomear {device}",
nameOf: "Nome para {device}",
save: "Salvar",
signOut: "Desconectar",
signOutOf: "Desconectar {device}",
ask: "Desconectar {device}?",
askEffect: "Será preciso entrar de novo nele.",
askHere: "Sair deste dispositivo?",
askHereEffect: "Você precisará entrar de novo aqui.",
askSeats: {
one: "A vaga dele fica livre.",
other: "As {n} vagas dele ficam livres."
},
askAll: "Desconectar as {n} sessões de {device}?",
askAllEffect: "Será preciso entrar de novo nelas.",
askOthers: {
one: "Desconectar {n} outro dispositivo?",
other: "Desconectar {n} outros dispositivos?"
},
askOthersEffect: {
one: "Será preciso entrar de novo nele.",
other: "Será preciso entrar de novo neles."
},
signingOut: "Desconectando…",
done: "{device} foi desconectado.",
doneBefore: "{device} já estava desconectado.",
doneOthers: {
one: "{n} outro dispositivo foi desconectado.",
other: "{n} outros dispositivos foram desconectados."
},
freed: {
one: "{n} vaga está livre de novo.",
other: "{n} vagas estão livres de novo."
},
others: "Desconectar outros dispositivos",
noOthers: "Nenhum outro dispositivo está conectado.",
cancel: "Cancelar",
refresh: "Atualizar",
refreshed: "Atualizado.",
retry: "Tentar de novo",
more: "Mostrar mais",
shown: "Mostrando {n} de {total}",
loading: "Carregando suas sessões…",
emptyTitle: "Nenhuma sessão ativa",
emptyText: "Quando você entrar em um dispositivo, ele aparecerá aqui.",
errorTitle: "Não é possível mostrar suas sessões agora",
errorText: "Você continua conectado, e nada mudou.",
offline: "Não há conexão com a rede.",
retrying: {
one: "Nova tentativa em {n} segundo.",
other: "Nova tentativa em {n} segundos."
},
stale: "Esta lista pode estar desatualizada.",
failed: "Não sabemos se funcionou. Você pode tentar de novo sem risco.",
reauth: "Primeiro confirme que é você: entre de novo.",
goneTitle: "Você foi desconectado",
goneText: "Entre de novo para ver onde mais você está conectado.",
signIn: "Entrar de novo",
onlyHere: "Você só está conectado aqui. Quando você entrar em outro dispositivo, ele aparecerá aqui.",
notSetUp: "As sessões ativas ainda não foram configuradas neste site, por isso não há nada para mostrar. Os responsáveis foram avisados.",
reasons: {
signed_out_elsewhere: "Este dispositivo foi desconectado a partir de outro.",
signed_out_everywhere: "Você saiu em todos os lugares.",
signed_out: "Você saiu.",
revoked: "Os responsáveis pelo site desconectaram este dispositivo.",
signed_out_by_operator: "Os responsáveis pelo site desconectaram este dispositivo.",
cut_off: "Os responsáveis pelo site desconectaram todo mundo.",
idle: "Este dispositivo ficou um tempo sem uso.",
expired: "Sua sessão tinha expirado."
}
});
