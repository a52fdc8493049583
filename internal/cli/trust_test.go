package cli

import (
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// Where the job finds an Azure token, the signer has signed one that Azure takes,
// and nowhere else.
func TestAzureAgreesWithTheSigner(t *testing.T) {
	for audience, azure := range map[string]bool{
		"api://AzureADTokenExchange": true, "api://AzureADTokenExchangeUSGov": true, "api://AzureADTokenExchangeChina": true,
		"api://azureadtokenexchange": false, "https://api://AzureADTokenExchange": false, "sts.amazonaws.com": false, "": false,
	} {
		if signed := keeper.AlgorithmFor(audience) == "RS256"; isAzure(audience) != azure || signed != azure || (tokenVariable(audience) == "AZURE_FEDERATED_TOKEN_FILE") != azure {
			t.Errorf("%q: Azure %v, RS256 %v, variable %q", audience, isAzure(audience), signed, tokenVariable(audience))
		}
	}
}
